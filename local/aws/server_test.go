package aws

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"
)

// start starts a server for a test.
func start(t *testing.T, change func(*Options)) *Server {
	t.Helper()
	opts := Options{Listen: "127.0.0.1:0", Data: t.TempDir()}
	if change != nil {
		change(&opts)
	}
	s, err := Start(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestTwoServersDoNotShareTheirData(t *testing.T) {
	t.Parallel()
	first := start(t, nil)
	opts := Options{Listen: "127.0.0.1:0", Data: first.opts.Data}
	_, err := Start(t.Context(), opts)
	require.ErrorContains(t, err, "another local AWS works in "+opts.Data)
	require.NoError(t, first.Close())
	again, err := Start(t.Context(), opts)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

// client is an HTTP client that trusts s.
func client(s *Server) *http.Client {
	pool := x509.NewCertPool()
	if bundle, err := os.ReadFile(s.CABundle); err == nil {
		pool.AppendCertsFromPEM(bundle)
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
}

// config is an SDK configuration for s with any key.
func config(s *Server) awssdk.Config {
	return awssdk.Config{
		Region:       "us-east-1",
		BaseEndpoint: awssdk.String(s.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("any", "key", ""),
		HTTPClient:   client(s),
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	for name, tls := range map[string]bool{"http": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, _ := local(t, start(t, func(o *Options) { o.TLS = tls }), http.MethodGet, "/health", "")
			require.Equal(t, http.StatusOK, status)
		})
	}
}

func TestS3ThroughTheFrontSurvivesARestart(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := start(t, func(o *Options) { o.Data = data })
	c := awss3.NewFromConfig(config(s))
	ctx := t.Context()
	_, err := c.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: awssdk.String("bucket")})
	require.NoError(t, err)
	want := make([]byte, 3<<20)
	_, _ = rand.Read(want)
	_, err = c.PutObject(ctx, &awss3.PutObjectInput{Bucket: awssdk.String("bucket"), Key: awssdk.String("a/b"), Body: bytes.NewReader(want)})
	require.NoError(t, err)
	require.NoError(t, s.Close())

	s = start(t, func(o *Options) { o.Data = data })
	out, err := awss3.NewFromConfig(config(s)).GetObject(ctx, &awss3.GetObjectInput{Bucket: awssdk.String("bucket"), Key: awssdk.String("a/b")})
	require.NoError(t, err)
	got, err := io.ReadAll(out.Body)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestAServiceThatIsNotHereIsRefusedInItsProtocol(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for name, c := range map[string]struct{ service, contentType, want string }{
		"query": {"iam", "application/x-www-form-urlencoded; charset=utf-8", "<Message>the local AWS does not have the service iam</Message>"},
		"json":  {"ecr", "application/x-amz-json-1.1", `"the local AWS does not have the service ecr"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/", nil)
			require.NoError(t, err)
			r.Header.Set("Content-Type", c.contentType)
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/"+c.service+"/aws4_request, SignedHeaders=host, Signature=0")
			out, err := client(s).Do(r)
			require.NoError(t, err)
			defer out.Body.Close()
			body, err := io.ReadAll(out.Body)
			require.NoError(t, err)
			require.Equal(t, http.StatusNotImplemented, out.StatusCode)
			require.Contains(t, string(body), c.want)
		})
	}
}
