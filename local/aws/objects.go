package aws

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/s3"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sagemaker"
)

// objects is S3 as a job's role sees it: the platform reads channels and writes
// models with the execution role's rights.
type objects struct {
	s3 *s3.Service
	// allowed judges an action on a resource; nil allows everything.
	allowed func(action, resource string) error
}

var _ sagemaker.Objects = objects{}

func (o objects) check(action, bucket, key string) error {
	if o.allowed == nil {
		return nil
	}
	resource := "arn:aws:s3:::" + bucket
	if action != "s3:ListBucket" {
		resource += "/" + key
	}
	if err := o.allowed(action, resource); err != nil {
		return fmt.Errorf("%s on %s: %w: %w", action, resource, err, fs.ErrPermission)
	}
	return nil
}

func (o objects) List(ctx context.Context, bucket, prefix string) ([]sagemaker.Object, error) {
	if err := o.check("s3:ListBucket", bucket, prefix); err != nil {
		return nil, err
	}
	found, err := o.s3.List(ctx, bucket, prefix)
	if err != nil {
		return nil, err
	}
	all := make([]sagemaker.Object, len(found))
	for i, f := range found {
		all[i] = sagemaker.Object{Key: f.Key, Size: f.Size, ETag: f.ETag, LastModified: f.Modified}
	}
	return all, nil
}

func (o objects) Open(ctx context.Context, bucket, key string) (io.ReadCloser, error) {
	if err := o.check("s3:GetObject", bucket, key); err != nil {
		return nil, err
	}
	return o.s3.Open(ctx, bucket, key)
}

func (o objects) Put(ctx context.Context, bucket, key string, r io.Reader) error {
	if err := o.check("s3:PutObject", bucket, key); err != nil {
		return err
	}
	return o.s3.Put(ctx, bucket, key, r)
}

func (o objects) Delete(ctx context.Context, bucket, key string) error {
	if err := o.check("s3:DeleteObject", bucket, key); err != nil {
		return err
	}
	return o.s3.Delete(ctx, bucket, key)
}
