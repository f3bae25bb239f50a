package e2e_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/stretchr/testify/require"
)

// cloudWatch is all that the stack's jobs have left in CloudWatch.
func (s *stack) cloudWatch(t *testing.T) string {
	t.Helper()
	client := cloudwatchlogs.New(cloudwatchlogs.Options{
		Region: region, BaseEndpoint: &s.url, HTTPClient: s.client,
		Credentials: credentials.NewStaticCredentialsProvider("e2e", "e2e", ""),
	})
	var text strings.Builder
	pages := cloudwatchlogs.NewFilterLogEventsPaginator(client, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("/aws/sagemaker/TrainingJobs")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		for _, event := range page.Events {
			text.WriteString(aws.ToString(event.Message) + "\n")
		}
	}
	return text.String()
}
