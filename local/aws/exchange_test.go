package aws

import (
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange/exchangetest"
)

// TestExchange holds the exchange on our S3 to its contract.
func TestExchange(t *testing.T) {
	t.Parallel()
	for name, tls := range map[string]bool{"http": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := awss3.NewFromConfig(config(start(t, func(o *Options) { o.TLS = tls })))
			_, err := c.CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: awssdk.String("bucket")})
			require.NoError(t, err)
			exchangetest.Conformance(t, exchange.NewS3Store(c, "bucket"))
		})
	}
}
