package sagemaker

import (
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssagemaker "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

// Ending is how a training job ended.
type Ending int

// Endings. Only Completed is success: a job that was stopped never is.
const (
	Completed  Ending = iota
	MaxRuntime        // MaxRuntimeInSeconds was reached
	MaxWait           // MaxWaitTimeInSeconds was reached (spot)
	Stopped           // StopTrainingJob, by whomever
	Capacity          // no instances to be had
	Internal          // AWS's own fault
	Client            // the request, the image or the output's destination
	Algorithm         // the container exited with another code than 0
)

// EndError is a training job's end other than Completed.
type EndError struct {
	Name   string
	Ending Ending
	Limit  time.Duration // for MaxRuntime and MaxWait
	// Reason is AWS's FailureReason, whole.
	Reason string
}

func (e *EndError) Error() string {
	switch e.Ending {
	case MaxRuntime:
		return fmt.Sprintf("training job %s ran into its MaxRuntimeInSeconds (%s) and was stopped by SageMaker", e.Name, e.Limit)
	case MaxWait:
		return fmt.Sprintf("training job %s ran into its MaxWaitTimeInSeconds (%s) and was stopped by SageMaker", e.Name, e.Limit)
	case Stopped:
		return fmt.Sprintf("training job %s was stopped from outside", e.Name)
	case Completed, Capacity, Internal, Client, Algorithm:
	}
	if e.Reason == "" {
		return fmt.Sprintf("training job %s failed, and SageMaker gives no reason", e.Name)
	}
	return fmt.Sprintf("training job %s failed; SageMaker says: %s", e.Name, e.Reason)
}

// ended tells whether a status is final.
func ended(s types.TrainingJobStatus) bool {
	switch s {
	case types.TrainingJobStatusCompleted, types.TrainingJobStatusFailed, types.TrainingJobStatusStopped, types.TrainingJobStatusDeleting:
		return true
	case types.TrainingJobStatusInProgress, types.TrainingJobStatusStopping:
	}
	return false
}

// Judge says what the end of a job means: nil if it completed, else an
// *EndError. It must only be asked of a job that has ended.
func Judge(d *awssagemaker.DescribeTrainingJobOutput) error {
	if d.TrainingJobStatus == types.TrainingJobStatusCompleted {
		return nil
	}
	e := &EndError{Name: aws.ToString(d.TrainingJobName), Reason: aws.ToString(d.FailureReason)}
	limit := func(seconds *int32) time.Duration { return time.Duration(aws.ToInt32(seconds)) * time.Second }
	switch {
	case passed(d, types.SecondaryStatusMaxRuntimeExceeded):
		e.Ending = MaxRuntime
		if c := d.StoppingCondition; c != nil {
			e.Limit = limit(c.MaxRuntimeInSeconds)
		}
	case passed(d, types.SecondaryStatusMaxWaitTimeExceeded):
		e.Ending = MaxWait
		if c := d.StoppingCondition; c != nil {
			e.Limit = limit(c.MaxWaitTimeInSeconds)
		}
	case d.TrainingJobStatus != types.TrainingJobStatusFailed:
		e.Ending = Stopped
	default:
		e.Ending = failureEnding(e.Reason)
	}
	return e
}

// failureEnding reads the prefix of a FailureReason. The prefixes are not in
// AWS's documentation of the API but in every report of its users; what has
// none of them is taken as AWS's own trouble.
func failureEnding(reason string) Ending {
	for prefix, ending := range map[string]Ending{
		"CapacityError":       Capacity,
		"InternalServerError": Internal,
		"ClientError":         Client,
		"AlgorithmError":      Algorithm,
	} {
		if strings.HasPrefix(strings.TrimSpace(reason), prefix) {
			return ending
		}
	}
	return Internal
}

func passed(d *awssagemaker.DescribeTrainingJobOutput, s types.SecondaryStatus) bool {
	if d.SecondaryStatus == s {
		return true
	}
	for _, t := range d.SecondaryStatusTransitions {
		if t.Status == s {
			return true
		}
	}
	return false
}
