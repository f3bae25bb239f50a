// Package exchangetest holds what the tests of the exchange share: a real S3
// server that can be made to fail, and the conformance suite of a Store.
package exchangetest

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

// Bucket exists on a Server.
const Bucket = "exchange"

// Server is an S3 server in memory.
type Server struct {
	URL string
	CA  string
	// Requests counts them all.
	Requests atomic.Int64
	handler  http.Handler
	http     *http.Client
	fault    atomic.Pointer[func(*http.Request) int]
	cut      atomic.Pointer[func(*http.Request) (int64, bool)]
	// conditional makes a write with If-None-Match one step, as it is in S3:
	// gofakes3 looks first and writes then.
	conditional sync.Mutex
}

// NewServer starts a server that ends with the test.
func NewServer(t testing.TB) *Server {
	t.Helper()
	return newServer(t, httptest.NewServer)
}

// NewTLSServer is NewServer with TLS; CA is the file with its certificate.
func NewTLSServer(t testing.TB) *Server {
	t.Helper()
	var certificate []byte
	s := newServer(t, func(h http.Handler) *httptest.Server {
		server := httptest.NewTLSServer(h)
		certificate = server.Certificate().Raw
		return server
	})
	s.CA = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(s.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600))
	return s
}

func newServer(t testing.TB, start func(http.Handler) *httptest.Server) *Server {
	t.Helper()
	backend := s3mem.New()
	require.NoError(t, backend.CreateBucket(t.Context(), Bucket))
	s := &Server{handler: gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()}
	server := start(s)
	s.http = server.Client()
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Fail makes the server answer with the status that fault returns, if it is not
// 0; nil mends it.
func (s *Server) Fail(fault func(*http.Request) int) {
	if fault == nil {
		s.fault.Store(nil)
		return
	}
	s.fault.Store(&fault)
}

// Cut breaks the connection after so many bytes of an answer's body, where cut
// says so.
func (s *Server) Cut(cut func(*http.Request) (int64, bool)) { s.cut.Store(&cut) }

type cutWriter struct {
	http.ResponseWriter
	left int64
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		panic(http.ErrAbortHandler)
	}
	c.left -= int64(len(p))
	return c.ResponseWriter.Write(p)
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.Requests.Add(1)
	if f := s.fault.Load(); f != nil {
		if status := (*f)(r); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	if c := s.cut.Load(); c != nil {
		if left, ok := (*c)(r); ok {
			w = &cutWriter{w, left}
		}
	}
	if r.Header.Get("If-None-Match") != "" {
		s.conditional.Lock()
		defer s.conditional.Unlock()
	}
	s.handler.ServeHTTP(w, r)
}

// Client makes a client of the server.
func (s *Server) Client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(s.URL), Region: "us-east-1", UsePathStyle: true, HTTPClient: s.http,
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
}

// Store makes a Store of the server's bucket.
func (s *Server) Store() *exchange.S3Store { return exchange.NewS3Store(s.Client(), Bucket) }
