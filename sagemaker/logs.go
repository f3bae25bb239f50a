package sagemaker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
)

// LogsAPI is what reading a job's CloudWatch log asks of AWS.
type LogsAPI interface {
	DescribeLogStreams(context.Context, *cloudwatchlogs.DescribeLogStreamsInput, ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.DescribeLogStreamsOutput, error)
	GetLogEvents(context.Context, *cloudwatchlogs.GetLogEventsInput, ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.GetLogEventsOutput, error)
}

const (
	tailLines   = 50
	tailStreams = 4
	tailPages   = 5
)

// TailLogs returns the last lines that a job's containers printed to
// CloudWatch, for a job whose agent never showed up: an image that cannot start
// says why there. No group, no stream and no lines are no error.
func TailLogs(ctx context.Context, api LogsAPI, name string) ([]string, error) {
	var lines []string
	streams, err := api.DescribeLogStreams(ctx, &cloudwatchlogs.DescribeLogStreamsInput{
		LogGroupName: aws.String(logGroup),
		// The slash keeps job-1 from matching job-10.
		LogStreamNamePrefix: aws.String(name + "/"),
		Limit:               aws.Int32(tailStreams),
	})
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the CloudWatch log of %s: %w", name, err)
	}
	for _, s := range streams.LogStreams {
		stream := aws.ToString(s.LogStreamName)
		events, err := tail(ctx, api, stream)
		if err != nil {
			return lines, err
		}
		host := strings.TrimPrefix(stream, name+"/") // algo-1-<epoch>
		for _, e := range events {
			text := strings.TrimRight(aws.ToString(e.Message), "\r\n")
			if len(streams.LogStreams) > 1 {
				text = host + ": " + text
			}
			lines = append(lines, text)
		}
	}
	return lines, nil
}

// tail reads the last page of a stream that holds something: an empty page is
// not yet the end.
func tail(ctx context.Context, api LogsAPI, stream string) ([]types.OutputLogEvent, error) {
	in := &cloudwatchlogs.GetLogEventsInput{
		LogGroupName: aws.String(logGroup), LogStreamName: aws.String(stream),
		StartFromHead: aws.Bool(false), Limit: aws.Int32(tailLines),
	}
	for range tailPages {
		out, err := api.GetLogEvents(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("read the CloudWatch log %s: %w", stream, err)
		}
		if len(out.Events) > 0 || aws.ToString(out.NextBackwardToken) == aws.ToString(in.NextToken) {
			return out.Events, nil
		}
		in.NextToken = out.NextBackwardToken
	}
	return nil, nil
}
