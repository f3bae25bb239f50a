package executor

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	awssagemaker "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

const (
	// modelCheck is how long S3 may take to say whether there is a model.
	modelCheck = 10 * time.Second
	// emptyModel is the most that an archive without a file has in bytes.
	emptyModel = 1024
)

// modelData is where a job's model is, or nothing: SageMaker names a place in
// any case, and sends an archive without a file where there is no model. If S3
// does not say, a completed job counts as having one.
func (t *training) modelData(ctx context.Context, d *awssagemaker.DescribeTrainingJobOutput) string {
	if d.ModelArtifacts == nil {
		return ""
	}
	uri := aws.ToString(d.ModelArtifacts.S3ModelArtifacts)
	bucket, key, ok := strings.Cut(strings.TrimPrefix(uri, "s3://"), "/")
	if !ok {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, modelCheck)
	defer cancel()
	c, err := t.aws(ctx)
	if err == nil {
		ok, err = modelThere(ctx, c.S3, bucket, key)
	}
	if err != nil {
		ok = d.TrainingJobStatus == types.TrainingJobStatusCompleted
	}
	if !ok {
		return ""
	}
	return uri
}

// modelThere looks for the archive, or for a file of an output that is not
// compressed.
func modelThere(ctx context.Context, c *s3.Client, bucket, key string) (bool, error) {
	few := func(o *s3.Options) { o.RetryMaxAttempts, o.DisableLogOutputChecksumValidationSkipped = 3, true }
	found, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String(key), MaxKeys: aws.Int32(1)}, few)
	if err != nil || len(found.Contents) == 0 {
		return false, err
	}
	if aws.ToInt64(found.Contents[0].Size) > emptyModel || aws.ToString(found.Contents[0].Key) != key {
		return true, nil
	}
	got, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)}, few)
	if err != nil {
		return false, err
	}
	defer got.Body.Close()
	return holdsFile(got.Body)
}

// holdsFile tells whether a .tar.gz has anything but directories.
func holdsFile(r io.Reader) (bool, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return false, err
	}
	archive := tar.NewReader(io.LimitReader(z, emptyModel*emptyModel))
	for {
		h, err := archive.Next()
		switch {
		case err == io.EOF:
			return false, nil
		case err != nil:
			return false, err
		case h.Typeflag != tar.TypeDir:
			return true, nil
		}
	}
}
