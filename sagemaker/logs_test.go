package sagemaker

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeLogs holds streams whose last page is empty, as AWS's may be.
type fakeLogs map[string][]string

func (f fakeLogs) DescribeLogStreams(_ context.Context, in *cloudwatchlogs.DescribeLogStreamsInput, _ ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.DescribeLogStreamsOutput, error) {
	if f == nil {
		return nil, &types.ResourceNotFoundException{}
	}
	out := &cloudwatchlogs.DescribeLogStreamsOutput{}
	for _, host := range []string{"algo-1-1700000000", "algo-2-1700000000"} {
		if name := aws.ToString(in.LogStreamNamePrefix) + host; f[name] != nil {
			out.LogStreams = append(out.LogStreams, types.LogStream{LogStreamName: aws.String(name)})
		}
	}
	return out, nil
}

func (f fakeLogs) GetLogEvents(_ context.Context, in *cloudwatchlogs.GetLogEventsInput, _ ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.GetLogEventsOutput, error) {
	out := &cloudwatchlogs.GetLogEventsOutput{NextBackwardToken: aws.String("b/1")}
	if in.NextToken == nil {
		return out, nil
	}
	for _, l := range f[aws.ToString(in.LogStreamName)] {
		out.Events = append(out.Events, types.OutputLogEvent{Message: aws.String(l)})
	}
	return out, nil
}

func TestTailLogs(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		logs fakeLogs
		want []string
	}{
		"no group yet":         {nil, nil},
		"no stream of the job": {fakeLogs{"job-10/algo-1-1700000000": {"another job"}}, nil},
		"no lines":             {fakeLogs{"job-1/algo-1-1700000000": {}}, nil},
		"one host": {
			fakeLogs{"job-1/algo-1-1700000000": {"exec: \"train\": not found\n"}},
			[]string{"exec: \"train\": not found"},
		},
		"two hosts": {
			fakeLogs{"job-1/algo-1-1700000000": {"a"}, "job-1/algo-2-1700000000": {"b"}},
			[]string{"algo-1-1700000000: a", "algo-2-1700000000: b"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := TailLogs(t.Context(), tt.logs, "job-1")
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}
