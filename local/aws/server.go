// Package aws is the local AWS: S3, SageMaker, CloudWatch Logs and STS on one
// port, for one machine. Requests go to the service that their signature's
// credential scope names; any access key is accepted unless roles are switched
// on.
package aws

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/s3"
)

// Options configure a Server. Listen and Data are required.
type Options struct {
	Listen  string // address, "127.0.0.1:4566"; port 0 takes a free one
	Data    string // directory of all state, made if missing
	Region  string // default us-east-1
	Account string // default 000000000000

	StartDelay  time.Duration // how long a job waits for its instances
	UploadDelay time.Duration // added to a job's upload of its model

	Log logrus.FieldLogger // default: the standard logger
}

func (o *Options) defaults() {
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.Account == "" {
		o.Account = "000000000000"
	}
	if o.Log == nil {
		o.Log = logrus.StandardLogger()
	}
}

// Server is a running local AWS.
type Server struct {
	URL string // "http://127.0.0.1:4566"

	opts     Options
	http     *http.Server
	services map[string]http.Handler // by credential scope
	objects  *s3.Service
	closers  []func() error
}

// Start starts a Server. It listens when Start returns.
func Start(ctx context.Context, opts Options) (*Server, error) {
	opts.defaults()
	s := &Server{opts: opts, services: map[string]http.Handler{}}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", opts.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", opts.Listen, err)
	}
	if err := s.assemble(listener); err != nil {
		return nil, errors.Join(err, listener.Close(), s.closeServices())
	}
	go func() { _ = s.http.Serve(listener) }()
	return s, nil
}

// assemble makes the services and the HTTP server in front of them.
func (s *Server) assemble(listener net.Listener) error {
	s.URL = "http://" + listener.Addr().String()
	var err error
	s.objects, err = s3.New(s3.Options{Dir: filepath.Join(s.opts.Data, "s3"), Region: s.opts.Region, Account: s.opts.Account})
	if err != nil {
		return err
	}
	s.services["s3"] = s.objects
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	return nil
}

func (s *Server) closeServices() error {
	var errs []error
	for _, c := range s.closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// Close stops the server and what runs in it.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	return errors.Join(err, s.closeServices())
}

// Run serves until ctx ends.
func Run(ctx context.Context, opts Options) error {
	s, err := Start(ctx, opts)
	if err != nil {
		return err
	}
	s.opts.Log.WithField("url", s.URL).Info("local AWS is ready")
	<-ctx.Done()
	return s.Close()
}
