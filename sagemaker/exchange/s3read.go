package exchange

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// maxResumes limits how often a download goes on after a broken connection
// without having got a single byte since the last time.
const maxResumes = 5

// Get implements Store. S3 answers 403 and not 404 to whoever may not list the
// bucket, as an execution role need not: a forbidden object counts as missing. A
// connection that breaks is taken up again where it
// broke, on the same version of the object.
func (s *S3Store) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: &key})
	if status(err) == http.StatusForbidden {
		return nil, fmt.Errorf("read %s: %w, or it is forbidden: %w", s.URL(key), ErrNotFound, err)
	}
	if err != nil {
		return nil, s.wrap("read", key, err)
	}
	return &resumingReader{ctx: ctx, store: s, key: key, etag: out.ETag, body: out.Body, size: aws.ToInt64(out.ContentLength)}, nil
}

// resumingReader reads an object to its end whatever the connection does.
type resumingReader struct {
	ctx      context.Context
	store    *S3Store
	key      string
	etag     *string
	body     io.ReadCloser
	offset   int64
	size     int64
	failures int
}

func (r *resumingReader) Read(p []byte) (int, error) {
	for {
		n, err := r.body.Read(p)
		r.offset += int64(n)
		if n > 0 {
			r.failures = 0
			if err != nil && r.offset < r.size {
				err = nil // told again by the next Read
			}
			return n, err
		}
		if err == nil || (err == io.EOF && r.offset >= r.size) {
			return n, err
		}
		if r.failures++; r.failures > maxResumes || r.ctx.Err() != nil {
			return 0, fmt.Errorf("read %s at byte %d of %d: %w", r.store.URL(r.key), r.offset, r.size, err)
		}
		if err := r.resume(); err != nil {
			return 0, err
		}
	}
}

func (r *resumingReader) resume() error {
	r.body.Close()
	out, err := r.store.client.GetObject(r.ctx, &s3.GetObjectInput{
		Bucket: &r.store.bucket, Key: &r.key, IfMatch: r.etag,
		Range: aws.String(fmt.Sprintf("bytes=%d-", r.offset)),
	})
	if err != nil {
		return r.store.wrap("read", r.key, err)
	}
	r.body = out.Body
	return nil
}

func (r *resumingReader) Close() error { return r.body.Close() }
