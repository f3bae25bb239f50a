package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	bucket = "bench"
	role   = "arn:aws:iam::000000000000:role/sagemaker-executor"
)

// stack is a local AWS as a process of its own, behind a proxy that counts, and
// settings for an executor that uses it.
type stack struct {
	*environment
	dir      string
	settings string // file
	process  *exec.Cmd
	proxy    *httptest.Server

	mu    sync.Mutex
	calls map[string]int // of SageMaker's operations
}

func startStack(ctx context.Context, e *environment) (s *stack, err error) {
	s = &stack{environment: e, calls: map[string]int{}}
	if s.dir, err = os.MkdirTemp(e.dir, "stack-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, err
	}
	s.process = exec.CommandContext(context.WithoutCancel(ctx), e.executor, "local", "aws", "--listen", address, "--data", filepath.Join(s.dir, "aws"))
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	if err := healthy(ctx, "http://"+address+"/health"); err != nil {
		return nil, err
	}
	backend := &url.URL{Scheme: "http", Host: address}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(backend)
			r.Out.Host = r.In.Host // the signature covers it
		},
		ErrorLog: log.New(io.Discard, "", 0), // requests that a process left behind as it ended
	}
	s.proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "SageMaker."); ok {
			s.mu.Lock()
			s.calls[operation]++
			s.mu.Unlock()
		}
		proxy.ServeHTTP(w, r)
	}))
	client := s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(s.proxy.URL), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("bench", "bench", ""),
	})
	if _, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		return nil, err
	}
	s.settings = filepath.Join(s.dir, "settings.toml")
	return s, os.WriteFile(s.settings, fmt.Appendf(nil, `
region = "us-east-1"
endpoint_url = %q
bucket = %q
role_arn = %q
work_dir = %q
[host]
runner = %q
[agent]
log_limit = %d
`, s.proxy.URL, bucket, role, filepath.Join(s.dir, "work"), s.runner, int64(1)<<40), 0o600)
}

func healthy(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the local AWS does not start: %w", context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// sageMakerCalls is the number of calls so far.
func (s *stack) sageMakerCalls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		n += c
	}
	return n
}

func (s *stack) close() error {
	if s.proxy != nil {
		s.proxy.CloseClientConnections()
		s.proxy.Close()
	}
	var err error
	if s.process != nil && s.process.Process != nil {
		err = s.process.Process.Signal(syscall.SIGTERM)
		_ = s.process.Wait()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}
