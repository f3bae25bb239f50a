package request

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
)

// errChecked ends a call of the SDK after its own check of the input.
var errChecked = errors.New("checked")

// checkRequired lets the SDK look for required fields that a spec has left
// out. Nothing is sent.
func (b *builder) checkRequired() error {
	in := *b.in
	in.TrainingJobName = aws.String("checked-later")
	client := sagemaker.New(sagemaker.Options{Region: "none", APIOptions: []func(*middleware.Stack) error{stopAfterCheck}})
	_, err := client.CreateTrainingJob(context.Background(), &in)
	var invalid smithy.InvalidParamsError
	switch {
	case errors.Is(err, errChecked):
		return nil
	case errors.As(err, &invalid) && invalid.Len() > 0:
		var first smithy.InvalidParamError
		if errors.As(invalid.Errs()[0], &first) {
			return failure.Invalid("%s lacks %s, which AWS requires", b.spec, strings.TrimPrefix(first.Field(), "CreateTrainingJobInput."))
		}
		return failure.Invalid("%s lacks a field that AWS requires: %w", b.spec, invalid.Errs()[0])
	default:
		return err
	}
}

func stopAfterCheck(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("stopAfterCheck",
		func(context.Context, middleware.InitializeInput, middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			return middleware.InitializeOutput{}, middleware.Metadata{}, errChecked
		}), middleware.After)
}
