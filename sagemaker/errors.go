package sagemaker

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// CapacityError says that AWS has no instances of a type to give now.
type CapacityError struct {
	InstanceType string
	Reason       string // AWS's own words, or how long was waited
}

func (e *CapacityError) Error() string {
	return fmt.Sprintf("no capacity for %s: %s", e.InstanceType, e.Reason)
}

// QuotaError says that an account's limit stands in the way.
type QuotaError struct {
	InstanceType string
	// Below: the limit itself is lower than what was asked for, so that
	// waiting is no use; otherwise others use it up now.
	Below   bool
	Message string // AWS's own words
	Link    string // the Service Quotas page
}

func (e *QuotaError) Error() string {
	if e.Below {
		return fmt.Sprintf("the account's quota for %s is below what the job asks for; have it raised at %s (AWS says: %s)", e.InstanceType, e.Link, e.Message)
	}
	return fmt.Sprintf("the account's quota for %s is used up by other jobs (AWS says: %s)", e.InstanceType, e.Message)
}

// RejectedError says that SageMaker refused a request as it stands: sending it
// again cannot help.
type RejectedError struct {
	Name   string
	Denied bool // permissions, not content
	Err    error
}

func (e *RejectedError) Error() string {
	verb := "rejected"
	if e.Denied {
		verb = "was not allowed to create"
	}
	if e.Denied {
		return fmt.Sprintf("the executor %s the training job %s: %s", verb, e.Name, awsMessage(e.Err))
	}
	return fmt.Sprintf("SageMaker %s the training job %s: %s", verb, e.Name, awsMessage(e.Err))
}

func (e *RejectedError) Unwrap() error { return e.Err }

// quotaNumbers finds the figures in ResourceLimitExceeded's message, such as
// "The account-level service limit 'ml.m5.large for training job usage' is 0
// Instances, with current utilization of 0 Instances and a request delta of 1
// Instances."
var quotaNumbers = regexp.MustCompile(`is (\d+)\s+\w+, with current utilization of (\d+)\s+\w+ and a request delta of (\d+)`)

// quotaError reads a ResourceLimitExceeded. A message without figures counts
// as a quota in use: waiting is the answer that does no harm.
func quotaError(instanceType, link string, e *types.ResourceLimitExceeded) *QuotaError {
	q := &QuotaError{InstanceType: instanceType, Message: e.ErrorMessage(), Link: link}
	if m := quotaNumbers.FindStringSubmatch(q.Message); m != nil {
		limit, errL := strconv.Atoi(m[1])
		demand, errD := strconv.Atoi(m[3])
		q.Below = errL == nil && errD == nil && limit < demand
	}
	return q
}

// isNotFound: SageMaker says of a missing job that the request was invalid.
func isNotFound(err error) bool {
	var gone *types.ResourceNotFound
	if errors.As(err, &gone) {
		return true
	}
	return apiCode(err) == "ValidationException" && strings.Contains(strings.ToLower(awsMessage(err)), "not found")
}

// isFinished: StopTrainingJob's refusal for a job that has ended.
func isFinished(err error) bool {
	return apiCode(err) == "ValidationException" && strings.Contains(awsMessage(err), "is in status")
}

func isRejected(err error) bool {
	return apiCode(err) == "ValidationException" || isNotFound(err) || isDenied(err) || isIncomplete(err)
}

// isIncomplete: the SDK refuses a request without a required member unsent.
func isIncomplete(err error) bool {
	var params smithy.InvalidParamsError
	var invalid *smithy.InvalidParamsError
	return errors.As(err, &params) || errors.As(err, &invalid)
}

func isDenied(err error) bool { return strings.HasPrefix(apiCode(err), "AccessDenied") }

func apiCode(err error) string {
	var ae smithy.APIError
	if errors.As(err, &ae) {
		return ae.ErrorCode()
	}
	return ""
}

// awsMessage is AWS's sentence without the SDK's wrapping, where there is one.
func awsMessage(err error) string {
	var ae smithy.APIError
	if errors.As(err, &ae) && ae.ErrorMessage() != "" {
		return ae.ErrorMessage()
	}
	return err.Error()
}

// delivery watches the attempts of one request: whether one of them may have
// done its work although its answer never came.
type delivery struct{ lost bool }

// middleware records every attempt, those that the SDK repeats included.
func (d *delivery) middleware(stack *middleware.Stack) error {
	m := middleware.FinalizeMiddlewareFunc("Delivery", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		out, meta, err := next.HandleFinalize(ctx, in)
		d.record(err)
		return out, meta, err
	})
	return stack.Finalize.Insert(m, "Retry", middleware.After)
}

func (d *delivery) record(err error) {
	var unsent *unsentError
	if err == nil || errors.As(err, &unsent) || isIncomplete(err) {
		return
	}
	var re *smithyhttp.ResponseError
	switch {
	case errors.As(err, &re) && re.HTTPStatusCode() >= 500:
		d.lost = true
	case apiCode(err) == "":
		d.lost = true
	}
}

// unsentError says that a request was held back and never sent.
type unsentError struct{ error }

func (e *unsentError) Unwrap() error { return e.error }

// Throttled tells whether AWS refused a request for coming too often.
func Throttled(err error) bool {
	return retry.ThrottleErrorCode{Codes: retry.DefaultThrottleErrorCodes}.IsErrorThrottle(err).Bool()
}
