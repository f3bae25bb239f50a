package s3

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Object is one object in a listing.
type Object struct {
	Key      string
	Size     int64
	ETag     string // unquoted
	Modified time.Time
}

// The functions below are S3 for the platform itself, without HTTP. A missing
// bucket or key is an error that wraps fs.ErrNotExist.

// List returns the objects whose key starts with prefix, in key order.
func (s *Service) List(_ context.Context, bucket, prefix string) ([]Object, error) {
	b, err := s.store.bucket(bucket)
	if err != nil {
		return nil, fmt.Errorf("list s3://%s/%s: %w", bucket, prefix, err)
	}
	var all []Object
	marker := ""
	for {
		p := b.listPage(prefix, "", marker, 1000)
		for _, e := range p.entries {
			all = append(all, Object{e.key, e.size, e.etag, e.modified})
		}
		if !p.truncated {
			return all, nil
		}
		marker = p.next
	}
}

// Open opens an object for reading.
func (s *Service) Open(_ context.Context, bucket, key string) (io.ReadCloser, error) {
	b, err := s.store.bucket(bucket)
	if err != nil {
		return nil, fmt.Errorf("open s3://%s/%s: %w", bucket, key, err)
	}
	o, err := b.open(key)
	if err != nil {
		return nil, fmt.Errorf("open s3://%s/%s: %w", bucket, key, err)
	}
	return o.body(0, o.Size)
}

// Put stores r, whose length is not known in advance.
func (s *Service) Put(ctx context.Context, bucket, key string, r io.Reader) error {
	headers := map[string]string{"Content-Type": "binary/octet-stream"}
	if _, err := s.backend.PutObject(ctx, bucket, key, headers, contextReader{ctx, r}, -1); err != nil {
		if _, missing := s.store.bucket(bucket); missing != nil {
			err = missing
		}
		return fmt.Errorf("put s3://%s/%s: %w", bucket, key, err)
	}
	return nil
}

// Delete removes an object; a missing one is no error.
func (s *Service) Delete(_ context.Context, bucket, key string) error {
	b, err := s.store.bucket(bucket)
	if err == nil {
		err = b.delete(key)
	}
	if err != nil {
		return fmt.Errorf("delete s3://%s/%s: %w", bucket, key, err)
	}
	return nil
}
