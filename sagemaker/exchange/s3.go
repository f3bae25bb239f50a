package exchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

const (
	// defaultPartSize is S3's smallest. Times its limit of 10,000 parts it makes
	// the largest object, 48 GiB.
	defaultPartSize = 5 << 20
	// partConcurrency is how many parts are sent at a time.
	partConcurrency = 2

	// maxAttempts with a mean back-off of maxBackoff is a little over two minutes.
	maxAttempts = 40
	maxBackoff  = 4 * time.Second
	minBackoff  = 50 * time.Millisecond

	// deleteBatch is the limit of DeleteObjects.
	deleteBatch = 1000
)

// S3Store is a Store in an S3 bucket.
type S3Store struct {
	client   *s3.Client
	transfer *transfermanager.Client
	bucket   string
}

var _ Store = (*S3Store)(nil)

// Option changes how an S3Store works.
type Option func(*transfermanager.Options)

// WithPartSize sets the size of the parts of large objects, in bytes: an upload
// holds about four in memory, and 10,000 are the largest object. The default is
// 5 MiB.
func WithPartSize(n int64) Option {
	return func(o *transfermanager.Options) { o.PartSizeBytes, o.MultipartUploadThreshold = n, n }
}

// NewS3Store makes a Store of a bucket. Whatever the client's own retry
// settings, requests are repeated until S3 has been gone for about two minutes.
func NewS3Store(client *s3.Client, bucket string, opts ...Option) *S3Store {
	patient := s3.New(client.Options(), func(o *s3.Options) {
		o.Retryer = retry.NewStandard(func(r *retry.StandardOptions) {
			r.MaxAttempts = maxAttempts
			r.Backoff = retry.BackoffDelayerFunc(backoff)
			r.RateLimiter = ratelimit.None
			r.Retryables = append([]retry.IsErrorRetryable{
				retry.RetryableErrorCode{Codes: map[string]struct{}{"ConditionalRequestConflict": {}}},
			}, r.Retryables...)
		})
		o.DisableLogOutputChecksumValidationSkipped = true
	})
	return &S3Store{
		client: patient,
		bucket: bucket,
		transfer: transfermanager.New(patient, func(o *transfermanager.Options) {
			WithPartSize(defaultPartSize)(o)
			o.Concurrency = partConcurrency
			o.FailTimeout = 10 * time.Second
			for _, opt := range opts {
				opt(o)
			}
		}),
	}
}

// backoff doubles from minBackoff to maxBackoff, with jitter.
func backoff(attempt int, _ error) (time.Duration, error) {
	d := maxBackoff
	if attempt < 7 {
		d = min(maxBackoff, minBackoff<<attempt)
	}
	return d/2 + rand.N(d), nil
}

// URL implements Store.
func (s *S3Store) URL(key string) string { return "s3://" + s.bucket + "/" + key }

// Put implements Store, in parts.
func (s *S3Store) Put(ctx context.Context, key string, r io.Reader) error {
	_, err := s.transfer.UploadObject(ctx, &transfermanager.UploadObjectInput{Bucket: &s.bucket, Key: &key, Body: r})
	return s.wrap("upload", key, err)
}

// PutBytes implements Store.
func (s *S3Store) PutBytes(ctx context.Context, key string, b []byte) error {
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &s.bucket, Key: &key, Body: bytes.NewReader(b)})
	return s.wrap("write", key, err)
}

// PutIfAbsent implements Store with If-None-Match.
func (s *S3Store) PutIfAbsent(ctx context.Context, key string, b []byte) error {
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.bucket, Key: &key, Body: bytes.NewReader(b), IfNoneMatch: aws.String("*"),
	})
	if status(err) != http.StatusPreconditionFailed {
		return s.wrap("write", key, err)
	}
	r, err := s.Get(ctx, key)
	if err != nil {
		return err
	}
	defer r.Close()
	there, err := io.ReadAll(io.LimitReader(r, int64(len(b))+1))
	if err != nil {
		return s.wrap("read", key, err)
	}
	if !bytes.Equal(there, b) {
		return fmt.Errorf("write %s: %w", s.URL(key), ErrExists)
	}
	return nil
}

// List implements Store.
func (s *S3Store) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: &prefix})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(Object{}, s.wrap("list", prefix, err))
				return
			}
			for _, o := range page.Contents {
				if !yield(Object{aws.ToString(o.Key), aws.ToInt64(o.Size), aws.ToTime(o.LastModified)}, nil) {
					return
				}
			}
		}
	}
}

// Delete implements Store, a thousand keys a request.
func (s *S3Store) Delete(ctx context.Context, keys ...string) error {
	for batch := range slices.Chunk(keys, deleteBatch) {
		objects := make([]types.ObjectIdentifier, len(batch))
		for i := range batch {
			objects[i].Key = &batch[i]
		}
		out, err := s.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
			Bucket: &s.bucket, Delete: &types.Delete{Objects: objects, Quiet: aws.Bool(true)},
		})
		if err != nil {
			return s.wrap("delete", batch[0], err)
		}
		for _, e := range out.Errors {
			return fmt.Errorf("delete %s: %s: %s", s.URL(aws.ToString(e.Key)), aws.ToString(e.Code), aws.ToString(e.Message))
		}
	}
	return nil
}

// wrap says what was done to which object, and what the answer means.
func (s *S3Store) wrap(verb, key string, err error) error {
	if err == nil {
		return nil
	}
	var api smithy.APIError
	if errors.As(err, &api) && (api.ErrorCode() == "NoSuchKey" || api.ErrorCode() == "NotFound") {
		return fmt.Errorf("%s %s: %w", verb, s.URL(key), ErrNotFound)
	}
	return fmt.Errorf("%s %s: %w", verb, s.URL(key), err)
}

// status is the HTTP status in an error, or 0.
func status(err error) int {
	var re *awshttp.ResponseError
	if errors.As(err, &re) {
		return re.HTTPStatusCode()
	}
	return 0
}
