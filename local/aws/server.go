// Package aws is the local AWS: S3, SageMaker, CloudWatch Logs and STS on one
// port, for one machine. Requests go to the service that their signature's
// credential scope names; any access key is accepted unless roles are switched
// on.
package aws

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/logs"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/s3"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sagemaker"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sagemaker/container"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sts"
)

// Options configure a Server. Listen and Data are required.
type Options struct {
	Listen  string // address, "127.0.0.1:4566"; port 0 takes a free one
	Data    string // directory of all state, made if missing; limits.json in it holds sagemaker.Limits
	Region  string // default us-east-1
	Account string // default 123456789012

	StartDelay  time.Duration // how long a job waits for its instances
	UploadDelay time.Duration // added to a job's upload of its model
	StopGrace   time.Duration // from SIGTERM to SIGKILL of a stopped job; default 120 s, as AWS

	// TLS serves HTTPS, with a certificate of an authority of our own
	// (DATA/ca.pem). TLSCert and TLSKey, PEM files, imply it.
	TLS             bool
	TLSCert, TLSKey string

	// Faults is a JSON file with a list of Fault; more come by POST to
	// /_local/faults.
	Faults string

	// Roles is a JSON file with the account's IAM roles; with one, roles are
	// switched on and their credentials may do only what their policies allow.
	Roles string

	// Runtime runs the jobs' containers; without one there is no SageMaker.
	Runtime container.Runtime

	Log logrus.FieldLogger // default: the standard logger
}

func (o *Options) defaults() {
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.Account == "" {
		o.Account = "123456789012"
	}
	o.TLS = o.TLS || o.TLSCert != ""
	if o.Log == nil {
		o.Log = logrus.StandardLogger()
	}
}

// Server is a running local AWS.
type Server struct {
	URL string // "http://127.0.0.1:4566"
	// CABundle is the PEM file of the authority that clients have to trust, ""
	// without TLS or with a certificate of the caller's.
	CABundle string

	opts     Options
	http     *http.Server
	local    http.Handler            // what lies under /_local/
	services map[string]http.Handler // by credential scope
	objects  *s3.Service
	logs     *logs.Service
	sts      *sts.Service
	sessions *sts.Sessions
	requests requests
	faults   faults
	roles    roles // nil when roles are off

	close    sync.Once
	closeErr error
	closers  []func() error
}

// Start starts a Server. It listens when Start returns.
func Start(ctx context.Context, opts Options) (*Server, error) {
	opts.defaults()
	held, err := lock(opts.Data)
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", opts.Listen)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %q: %w", opts.Listen, err), held.Close())
	}
	s := &Server{opts: opts, URL: "http://" + listener.Addr().String()}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, ErrorLog: quiet(opts.Log)}
	if err := s.addServices(ctx, &listener); err != nil {
		return nil, errors.Join(err, listener.Close(), s.closeServices(), held.Close())
	}
	s.closers = append(s.closers, held.Close) // when nobody writes there any more
	s.local = s.localRoutes()
	go func() { _ = s.http.Serve(listener) }()
	return s, nil
}

// quiet takes what net/http says of broken connections, which are usual here.
func quiet(l logrus.FieldLogger) *log.Logger {
	return log.New(logWriter{l}, "", 0)
}

type logWriter struct{ logrus.FieldLogger }

func (w logWriter) Write(b []byte) (int, error) {
	w.Debug(strings.TrimSpace(string(b)))
	return len(b), nil
}

// secure makes listener speak TLS. Containers' credentials stay on plain HTTP,
// on a loopback port of their own: botocore reads them without looking at
// AWS_CA_BUNDLE.
func (s *Server) secure(ctx context.Context, listener *net.Listener) (credentials string, err error) {
	if !s.opts.TLS {
		return s.URL, nil
	}
	cert, err := s.certificate()
	if err != nil {
		return "", err
	}
	*listener = tls.NewListener(*listener, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	s.URL = "https" + strings.TrimPrefix(s.URL, "http")
	plain, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen for containers' credentials: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+credentialsPath+"{token}", s.serveCredentials)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute, ErrorLog: s.http.ErrorLog}
	s.closers = append(s.closers, server.Close)
	go func() { _ = server.Serve(plain) }()
	return "http://" + plain.Addr().String(), nil
}

// addServices makes the services.
func (s *Server) addServices(ctx context.Context, listener *net.Listener) error {
	credentials, err := s.secure(ctx, listener)
	if err != nil {
		return err
	}
	o := s.opts
	if err := s.faults.load(o.Faults); err != nil {
		return err
	}
	if s.roles, err = loadRoles(o.Roles); err != nil {
		return err
	}
	if s.objects, err = s3.New(s3.Options{Dir: filepath.Join(o.Data, "s3"), Region: o.Region, Account: o.Account}); err != nil {
		return err
	}
	if s.logs, err = logs.New(logs.Options{Dir: filepath.Join(o.Data, "logs"), Region: o.Region, Account: o.Account}); err != nil {
		return err
	}
	s.sessions = sts.NewSessions(time.Now)
	identity := sts.Options{Account: o.Account, Sessions: s.sessions, Caller: s.session}
	if s.roles != nil {
		identity.Trust = s.roles.trust
	}
	s.sts = sts.New(identity)
	s.services = map[string]http.Handler{"s3": s.objects, "logs": s.logs, "sts": s.sts}
	if o.Runtime == nil {
		return nil
	}
	jobs, err := sagemaker.New(sagemaker.Options{
		Data: filepath.Join(o.Data, "sagemaker"), Region: o.Region, Account: o.Account,
		Objects:     func(role string) sagemaker.Objects { return objects{s3: s.objects, allowed: s.platform(role)} },
		Logs:        logSink{s.logs},
		Credentials: containerCredentials{s.sessions, credentials},
		Faults:      &s.faults,
		Runtime:     o.Runtime,
		EndpointURL: func() string { return s.URL },
		CABundle:    s.CABundle,
		Limits:      filepath.Join(o.Data, "limits.json"),
		StartDelay:  o.StartDelay,
		UploadDelay: o.UploadDelay,
		StopGrace:   o.StopGrace,
		Log:         o.Log,
	})
	if err != nil {
		return err
	}
	s.services["sagemaker"] = jobs
	s.closers = append(s.closers, jobs.Close)
	return nil
}

func (s *Server) closeServices() error {
	var errs []error
	for _, c := range s.closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// Close stops the server and what runs in it; closing again does nothing.
func (s *Server) Close() error {
	s.close.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		err := s.http.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) { // a client still talks
			err = s.http.Close()
		}
		s.closeErr = errors.Join(err, s.closeServices())
	})
	return s.closeErr
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
