// Package s3 is an S3 for one machine: buckets and objects in a directory,
// which survive a restart.
//
// The protocol is github.com/rclone/gofakes3; this package adds a backend that
// keeps objects in files, whatever their size, and in front of it what gofakes3
// lacks: the aws-chunked encoding with verified trailers, ETags of multipart
// uploads, uploads that outlive a restart, buckets' configuration documents,
// and encryption headers, which are recorded (nothing is really encrypted).
// Versioning can be switched on and is reported, but old versions are not kept.
package s3

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/rclone/gofakes3"
)

// Options configure a Service.
type Options struct {
	Dir     string           // where buckets lie; made if missing
	Region  string           // of buckets without a location constraint; default us-east-1
	Account string           // the owner of all buckets; default 123456789012
	Now     func() time.Time // default time.Now
}

// Service is the S3 of one account.
type Service struct {
	opts    Options
	store   *store
	backend backend
	fake    http.Handler
}

var _ http.Handler = (*Service)(nil)

// New opens the buckets under opts.Dir.
func New(opts Options) (*Service, error) {
	if opts.Region == "" {
		opts.Region = "us-east-1"
	}
	if opts.Account == "" {
		opts.Account = "123456789012"
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	st, err := openStore(opts.Dir, opts.Now)
	if err != nil {
		return nil, err
	}
	s := &Service{opts: opts, store: st, backend: backend{st}}
	s.fake = gofakes3.New(s.backend, gofakes3.WithTimeSkewLimit(0)).Server()
	return s, s.resumeUploads()
}

// Address splits a request's path into bucket and key, either of which can be
// empty, for both path-style and virtual-hosted requests (bucket.localhost,
// bucket.s3.region.amazonaws.com).
func Address(r *http.Request) (bucket, key string) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	if b := hostBucket(r.Host); b != "" {
		return b, path
	}
	bucket, key, _ = strings.Cut(path, "/")
	return bucket, key
}

// hostBucket returns the bucket in a virtual-hosted request's host.
func hostBucket(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if b, ok := strings.CutSuffix(host, ".localhost"); ok && b != "s3" {
		return strings.TrimSuffix(b, ".s3")
	}
	if b, rest, ok := strings.Cut(host, ".s3."); ok && strings.HasSuffix(rest, "amazonaws.com") {
		return b
	}
	return ""
}

// ServeHTTP answers one request. Whoever calls it has checked credentials.
func (s *Service) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	c := &call{extra: http.Header{}}
	w := &response{ResponseWriter: rw, request: r, call: c}
	if r.Header.Get("Expect") != "" && r.ContentLength == 0 {
		rw.WriteHeader(http.StatusContinue) // net/http sends it when a body is read; here is none
	}
	r = r.WithContext(withCall(r.Context(), c))
	bucket, key := Address(r)
	if hostBucket(r.Host) != "" {
		r.URL.Path, r.URL.RawPath = "/"+bucket+"/"+key, ""
	}
	if err := s.prepare(c, r, bucket, key); err != nil {
		writeError(w, r, err)
		return
	}
	if s.serveBucket(w, r, bucket, key) {
		return
	}
	s.fake.ServeHTTP(w, r)
	if !w.started {
		w.WriteHeader(http.StatusOK)
	}
}

// prepare turns what gofakes3 would not understand into a call's fields.
func (s *Service) prepare(c *call, r *http.Request, bucket, key string) error {
	if owner := r.Header.Get("X-Amz-Expected-Bucket-Owner"); owner != "" && owner != s.opts.Account {
		return errAccessDenied
	}
	if err := checkExpiry(r, s.opts.Now()); err != nil {
		return err
	}
	lengthenConditions(r.Header)
	if bucket != "" {
		c.extra.Set("X-Amz-Bucket-Region", s.region(bucket))
	}
	if key == "" {
		return nil
	}
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodPost && q.Has("uploads"):
		c.checksumAlgorithm = strings.ToUpper(r.Header.Get("X-Amz-Checksum-Algorithm"))
		c.checksumType = strings.ToUpper(r.Header.Get("X-Amz-Checksum-Type"))
	case r.Method == http.MethodPost && q.Has("uploadId"):
		for name := range r.Header {
			if strings.HasPrefix(name, checksumHeader) && newChecksum(strings.ToUpper(name[len(checksumHeader):])) != nil {
				c.checksumValue = r.Header.Get(name)
			}
		}
	case r.Method == http.MethodPut && !q.Has("tagging") && !q.Has("acl") && r.Header.Get("X-Amz-Copy-Source") == "":
		p, err := decodePayload(r)
		if err != nil {
			return err
		}
		c.payload = p
	}
	if r.Method == http.MethodPut || r.Method == http.MethodPost {
		return s.takeEncryption(c, r, bucket)
	}
	return nil
}

// region returns the region of a bucket, or the default one.
func (s *Service) region(bucket string) string {
	if b, err := s.store.bucket(bucket); err == nil && b.info.Region != "" {
		return b.info.Region
	}
	return s.opts.Region
}

// resumeUploads tells gofakes3 of the uploads that an earlier process began.
func (s *Service) resumeUploads() error {
	for _, b := range s.store.list() {
		uploads, err := b.uploads()
		if err != nil {
			return err
		}
		for _, u := range uploads {
			s.announce(http.MethodPost, b.name, u.Key, "uploads", &resumed{id: u.id})
			parts, err := b.parts(u.id)
			if err != nil {
				return err
			}
			for number, m := range parts {
				s.announce(http.MethodPut, b.name, u.Key, "partNumber="+number+"&uploadId="+string(u.id), &resumed{etag: `"` + m.ETag + `"`})
			}
		}
	}
	return nil
}

// announce makes gofakes3 note an upload or a part that is there already.
func (s *Service) announce(method, bucket, key, query string, known *resumed) {
	r := (&http.Request{Method: method, Header: http.Header{"Content-Length": {"0"}}, Body: http.NoBody}).
		WithContext(withCall(context.Background(), &call{extra: http.Header{}, resume: known}))
	r.URL = objectURL(bucket, key, query)
	s.fake.ServeHTTP(&discard{header: http.Header{}}, r)
}

// discard is a ResponseWriter for answers that nobody waits for.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return io.Discard.Write(b) }
func (d *discard) WriteHeader(int)             {}
