package sagemaker

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	awssagemaker "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// maxAttempts is AWS's advice for requests that are throttled in bursts.
const maxAttempts = 20

// Options say which AWS to talk to.
type Options struct {
	Region string
	// EndpointURL replaces AWS's endpoints, for all services; empty means AWS.
	EndpointURL string
	// LimitDir holds the files of the rate limit that the processes of this
	// host share; empty means no limit.
	LimitDir string
}

// Clients are AWS's clients with the credentials of this process.
type Clients struct {
	SageMaker *awssagemaker.Client
	S3        *s3.Client
	Logs      *cloudwatchlogs.Client
	STS       *sts.Client
	Region    string
}

// NewClients reads the process's AWS configuration and makes the clients.
func NewClients(ctx context.Context, o Options) (*Clients, error) {
	load := []func(*config.LoadOptions) error{
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(so *retry.StandardOptions) {
				so.MaxAttempts = maxAttempts
				so.MaxBackoff = 20 * time.Second
				// The token bucket of the SDK gives up early under a burst of
				// throttling, which is just what the attempts are for.
				so.RateLimiter = ratelimit.None
			})
		}),
	}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	if o.EndpointURL != "" {
		load = append(load, config.WithBaseEndpoint(o.EndpointURL))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("read the AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, fmt.Errorf("no AWS region: set region in the settings")
	}

	// Requests of these services are small and answered in seconds; without a
	// limit, one lost answer would hang a stage for good. The client is the
	// configuration's own, which knows AWS_CA_BUNDLE.
	short := awshttp.NewBuildableClient()
	if c, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		short = c
	}
	short = short.WithTimeout(time.Minute)
	var sageMakerOptions []func(*awssagemaker.Options)
	if o.LimitDir != "" {
		l, err := newLimiter(o.LimitDir)
		if err != nil {
			return nil, err
		}
		sageMakerOptions = append(sageMakerOptions, awssagemaker.WithAPIOptions(l.middleware))
	}
	sageMakerOptions = append(sageMakerOptions, func(so *awssagemaker.Options) { so.HTTPClient = short })
	return &Clients{
		SageMaker: awssagemaker.NewFromConfig(cfg, sageMakerOptions...),
		S3: s3.NewFromConfig(cfg, func(so *s3.Options) {
			// Another S3 than AWS's seldom has a host name for every bucket.
			so.UsePathStyle = o.EndpointURL != ""
		}),
		Logs: cloudwatchlogs.NewFromConfig(cfg, func(lo *cloudwatchlogs.Options) {
			lo.HTTPClient = short
			lo.Retryer = retry.NewStandard() // logs and the greeting are not worth minutes
		}),
		STS: sts.NewFromConfig(cfg, func(so *sts.Options) {
			so.HTTPClient = short
			so.Retryer = retry.NewStandard()
		}),
		Region: cfg.Region,
	}, nil
}
