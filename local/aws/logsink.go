package aws

import (
	"context"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/logs"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sagemaker"
)

// logSink is CloudWatch Logs as the platform uses it.
type logSink struct {
	logs *logs.Service
}

var _ sagemaker.Logs = logSink{}

func (l logSink) PutEvents(_ context.Context, group, stream string, events []sagemaker.LogEvent) error {
	converted := make([]logs.Event, len(events))
	for i, e := range events {
		converted[i] = logs.Event{Time: e.Time, Message: e.Message}
	}
	return l.logs.PutEvents(group, stream, converted)
}
