// Package agent runs inside the SageMaker container. It fetches the project and
// the scripts from the exchange, runs them, and sends back their output, their
// exit codes and the files that the job keeps.
//
// One agent runs on every instance of a job. Each runs the scripts; algo-1's
// output is the job log, and its files come home.
package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

// answerTimeout is how long S3 may take to begin an answer: a connection that
// died without a word must not hold the agent.
const answerTimeout = time.Minute

// outputPart allows for outputs of 156 GiB.
const outputPart = 16 << 20

// Options say where the exchange is.
type Options struct {
	// Exchange is the URL of the attempt's prefix: s3://BUCKET/PREFIX/.
	Exchange string
	// Region of the bucket.
	Region string
	// MLDir is SageMaker's directory; empty means /opt/ml.
	MLDir string
	// Stdout is what CloudWatch gets; nil means the process's.
	Stdout io.Writer
}

// ExitError is the agent's verdict about a script that failed: the process is
// to exit with Code, so that SageMaker calls the job failed.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *ExitError) Unwrap() error { return e.Err }

// Run serves the exchange until the executor says finish. The error is an
// *ExitError if a script failed. When ctx ends, which is SageMaker stopping the
// container, the script is stopped and its output sent.
func Run(ctx context.Context, opts Options) error {
	bucket, prefix, err := parseExchange(opts.Exchange)
	if err != nil {
		return err
	}
	if err := useFallbackRoots(); err != nil {
		return err
	}
	client, err := newClient(ctx, opts.Region)
	if err != nil {
		return err
	}
	if opts.MLDir == "" {
		opts.MLDir = "/opt/ml"
	}
	if opts.Stdout == nil {
		opts.Stdout = os.Stdout
	}
	a := &agent{
		store: exchange.NewS3Store(client, bucket, exchange.WithPartSize(outputPart)), keys: exchange.Keys{Prefix: prefix}, opts: opts,
	}
	return a.run(ctx)
}

func parseExchange(s string) (bucket, prefix string, err error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.Path == "" || u.Path == "/" {
		return "", "", fmt.Errorf("--exchange %q is not s3://BUCKET/PREFIX/", s)
	}
	return u.Host, path.Clean(strings.TrimPrefix(u.Path, "/")) + "/", nil
}

// newClient makes an S3 client from the container's environment alone.
func newClient(ctx context.Context, region string) (*s3.Client, error) {
	opts := []func(*config.LoadOptions) error{config.WithHTTPClient(
		awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.Proxy, t.ResponseHeaderTimeout = proxy, answerTimeout
		}),
	)}
	if region != "" {
		opts = append(opts, config.WithRegion(region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("set up the AWS client: %w", err)
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		// With an endpoint of its own, a bucket need not have a host name.
		o.UsePathStyle = o.BaseEndpoint != nil
	}), nil
}

// proxy is the environment's, but never for the credentials endpoint: no proxy
// can reach the address that hands out the role's credentials.
func proxy(r *http.Request) (*url.URL, error) {
	host := r.URL.Hostname()
	ip := net.ParseIP(host)
	if host == credentialsHost() || (ip != nil && (ip.IsLoopback() || ip.IsLinkLocalUnicast())) {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

// credentialsHost is that of AWS_CONTAINER_CREDENTIALS_FULL_URI; the relative
// form always means the link-local 169.254.170.2.
func credentialsHost() string {
	u, err := url.Parse(os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"))
	if err != nil {
		return ""
	}
	return u.Hostname()
}
