package executor

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/job"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker"
)

// What stands between the runner and AWS is told apart: the place, the network,
// the credentials.
func TestCheckAWSNamesTheFault(t *testing.T) {
	t.Parallel()

	denied := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(denied.Close)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	refused := "http://" + free.Addr().String()
	require.NoError(t, free.Close())

	for name, tt := range map[string]struct {
		url, setting string
		says         string
	}{
		"refused endpoint": {refused, refused, "nothing answers at endpoint_url " + refused + " (s.toml:3): "},
		"no such region":   {"http://sts.mars-1.invalid", "", "AWS has no host of the region mars-1 (s.toml:2), or the runner's DNS"},
		"no way to AWS":    {refused, "", "AWS cannot be reached in the region mars-1 (s.toml:2): "},
		"credentials":      {denied.URL, denied.URL, "the runner's AWS credentials do not work in mars-1: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTestStage(t, &job.Job{})
			s.settings.EndpointURL = tt.setting
			s.settings.Sources = map[string]string{"region": "s.toml:2", "endpoint_url": "s.toml:3"}
			transport := &http.Transport{DialContext: dialWithoutNames}
			s.clients = &sagemaker.Clients{Region: "mars-1", STS: sts.New(sts.Options{
				Region: "mars-1", BaseEndpoint: aws.String(tt.url), Retryer: aws.NopRetryer{},
				Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
				HTTPClient:  &http.Client{Transport: transport},
			})}
			err := s.checkAWS(t.Context())
			assert.ErrorContains(t, err, tt.says)
			_, build := failure.AsBuild(err)
			assert.False(t, build, "the administrator mends it")
		})
	}
}

// dialWithoutNames knows addresses and no names, without asking anybody.
func dialWithoutNames(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err == nil && net.ParseIP(host) == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}
