package executor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/request"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker"
)

// checkTimeout is for AWS's answers to questions that cost nothing.
const checkTimeout = 30 * time.Second

// Prepare is the stage prepare: it checks all that can be known before money
// is spent. A user's mistake is a failure.Build, which the runner does not
// retry; anything else is retried by the runner, three times in all, with
// cleanup and config in between, so nothing here outlives the stage but the
// job's directory.
func Prepare(ctx context.Context, o Stage) error {
	s, err := open(o)
	if err != nil {
		return err
	}
	return s.stopped(ctx, s.prepare(ctx))
}

func (s *stage) prepare(ctx context.Context) error {
	if s.job.Canary() {
		// The runner's check of itself: no project sent this job.
		if err := s.host.Prepare(ctx); err != nil {
			return err
		}
		return (&state{Kind: request.KindHost}).save(s.dirs.base)
	}
	left := s.remaining()
	req, err := request.Resolve(s.job, s.settings, left)
	if err != nil {
		return err
	}
	if err := (&state{Kind: req.Kind}).save(s.dirs.base); err != nil {
		return err
	}
	if err := s.host.Prepare(ctx); err != nil {
		return err
	}
	s.log.Line("%s of the job's time-out of %s are left, the start of the instance included",
		left.Truncate(time.Second), s.job.Timeout)
	if req.Kind == request.KindHost {
		s.log.Line("This job's script runs on the runner host, in a sandbox; image: is not used")
		return nil
	}
	if err := s.checkAWS(ctx); err != nil {
		return err
	}
	s.describe(req)
	return nil
}

// checkAWS makes sure of the runner's credentials, the buckets and the agent's
// binary.
func (s *stage) checkAWS(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	c, err := s.aws(ctx)
	if err != nil {
		return err
	}
	if p := c.STS.Options().Credentials; p != nil {
		if _, err := p.Retrieve(ctx); err != nil {
			return fmt.Errorf("the runner has no AWS credentials: %w", err)
		}
	}
	who, err := c.STS.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	var unsent *smithyhttp.RequestSendError
	switch {
	case errors.As(err, &unsent):
		return s.unreachable(c.Region, unsent.Err)
	case err != nil:
		return fmt.Errorf("the runner's AWS credentials do not work in %s: %w", c.Region, err)
	}
	s.log.Line("AWS account %s in %s, as %s", aws.ToString(who.Account), c.Region, aws.ToString(who.Arn))
	buckets := []string{s.settings.Bucket}
	if s.settings.Exchange() != s.settings.Bucket {
		buckets = append(buckets, s.settings.Exchange())
	}
	for _, bucket := range buckets {
		if err := checkBucket(ctx, c, bucket); err != nil {
			return fmt.Errorf("%w (set in %s)", err, s.bucketPlace(bucket))
		}
	}
	f, err := os.Open(s.Executable)
	if err != nil {
		return fmt.Errorf("the agent's binary cannot be read: %w", err)
	}
	return f.Close()
}

// unreachable is the error of a request that reached nobody: where to reach AWS
// is wrong, or the network is.
func (s *stage) unreachable(region string, err error) error {
	if url := s.settings.EndpointURL; url != "" {
		return fmt.Errorf("nothing answers at endpoint_url %s (%s): %w; mend the setting, or look whether it runs", url, s.settings.Place("endpoint_url"), err)
	}
	var lookup *net.DNSError
	if errors.As(err, &lookup) && lookup.IsNotFound {
		return fmt.Errorf("AWS has no host of the region %s (%s), or the runner's DNS does not know it: %w", region, s.settings.Place("region"), err)
	}
	return fmt.Errorf("AWS cannot be reached in the region %s (%s): %w; look at the runner's network and proxy", region, s.settings.Place("region"), err)
}

// bucketPlace says where the name of a bucket was set.
func (s *stage) bucketPlace(bucket string) string {
	if bucket == s.settings.Bucket {
		return s.settings.Place("bucket")
	}
	return s.settings.Place("exchange_bucket")
}

func checkBucket(ctx context.Context, c *sagemaker.Clients, bucket string) error {
	_, err := c.S3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String(bucket)}, func(o *s3.Options) {
		o.RetryMaxAttempts = 3
	})
	var missing *s3types.NotFound
	switch {
	case errors.As(err, &missing):
		return fmt.Errorf("the S3 bucket %s of the settings does not exist: make it, or mend the setting", bucket)
	case err != nil:
		return fmt.Errorf("the S3 bucket %s of the settings cannot be used: %w", bucket, err)
	}
	return nil
}

// describe tells the user what the job will get.
func (s *stage) describe(req *request.Request) {
	s.log.Line("The script will run in SageMaker, image %s", req.Image)
	switch len(req.InstanceTypes) {
	case 0:
	case 1:
		s.log.Line("Instance type %s", req.InstanceTypes[0])
	default:
		s.log.Line("Instance types in order of preference: %s", strings.Join(req.InstanceTypes, ", "))
	}
	limit := fmt.Sprintf("It may run for %s", req.MaxRuntime)
	if req.MaxWait > 0 {
		limit += fmt.Sprintf(", and wait and run for %s (spot)", req.MaxWait)
	}
	s.log.Line("%s", limit)
	for _, note := range req.Notes {
		s.log.Line("%s", note)
	}
	if req.Spec != "" {
		s.log.Line("%s is read once the sources are there", req.Spec)
	}
}

// ignoreCancel separates a clean-up's own deadline from its caller's.
func ignoreCancel(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), d, errors.New("the clean-up took too long"))
}
