package request_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/request"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/settings"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/model"
)

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// wire is the body that AWS would get.
func wire(t *testing.T, r *request.Request) []byte {
	t.Helper()
	var body []byte
	client := sagemaker.New(sagemaker.Options{
		Region:      "eu-west-1",
		Credentials: credentials.NewStaticCredentialsProvider("any", "key", ""),
		HTTPClient: &http.Client{Transport: transport(func(req *http.Request) (*http.Response, error) {
			var err error
			body, err = io.ReadAll(req.Body)
			answer := io.NopCloser(strings.NewReader(`{"TrainingJobArn":"arn"}`))
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: answer}, err
		})},
	})
	in := *r.Create
	in.TrainingJobName = aws.String("gitlab-1") // the one required field that is not ours
	_, err := client.CreateTrainingJob(t.Context(), &in)
	require.NoError(t, err)
	return body
}

// TestAWSsModelAcceptsWhatIsResolved holds requests, at the edges of what
// Resolve lets through too, to the constraints of botocore's API model.
func TestAWSsModelAcceptsWhatIsResolved(t *testing.T) {
	t.Parallel()

	tests := map[string]struct {
		vars   vars
		change func(*settings.Settings)
	}{
		"nothing": {},
		"everything": {
			vars{
				"SAGEMAKER_INSTANCE_TYPE": "ml.g5.xlarge,ml.m5.large", "SAGEMAKER_INSTANCE_COUNT": "2", "SAGEMAKER_VOLUME_SIZE_GB": "1024",
				"SAGEMAKER_SPOT": "true", "SAGEMAKER_MAX_RUNTIME": "1s", "SAGEMAKER_MAX_WAIT": "5d", "SAGEMAKER_CHECKPOINTS": "true",
				"SAGEMAKER_INPUT_A": "s3://data", "SAGEMAKER_INPUT_B": "s3://data/b,FastFile", "SAGEMAKER_INPUT_C": "s3://data/c,Pipe",
				"SAGEMAKER_HYPERPARAMETERS": `{"a": [1, "ü"]}`, "SAGEMAKER_METRIC_LOSS": "loss=([0-9.]+)", "SAGEMAKER_ROLE_ARN": role,
			},
			func(s *settings.Settings) {
				s.Network = settings.Network{Subnets: []string{"subnet-1"}, SecurityGroups: []string{"sg-1"}, EncryptTraffic: true}
				s.KMS = settings.KMS{VolumeKey: "arn:aws:kms:eu-west-1:123456789012:key/a-b", OutputKey: "alias/x"}
				s.Tags = map[string]string{"cost center": "a+b=c@d"}
			},
		},
		"longest texts": {
			vars{
				"SAGEMAKER_HP_P": strings.Repeat("x", 2500),
				"SAGEMAKER_HP_" + strings.Repeat("N", 256):     "x",
				"SAGEMAKER_METRIC_M":                           "(" + strings.Repeat("x", 498) + ")",
				"SAGEMAKER_METRIC_" + strings.Repeat("N", 255): "(x)",
				"SAGEMAKER_INPUT_" + strings.Repeat("C", 64):   "s3://data/" + strings.Repeat("k", 1014),
				"SAGEMAKER_CHECKPOINTS":                        strings.Repeat("k", 128),
			}, nil,
		},
		"longest times": {
			vars{"SAGEMAKER_MAX_RUNTIME": "28d", "SAGEMAKER_KEEP_ALIVE": "6h"},
			func(s *settings.Settings) {
				s.Policy.MaxRuntime, s.Policy.MaxKeepAlive = settings.Duration(672*time.Hour), settings.Duration(6*time.Hour)
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSettings()
			if tt.change != nil {
				tt.change(s)
			}
			r, err := request.Resolve(newJob(t, tt.vars), s, 2*time.Hour)
			require.NoError(t, err)
			assert.NoError(t, model.Validate("sagemaker", "CreateTrainingJob", wire(t, r)))
		})
	}
}
