package aws

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sagemaker"
)

// local makes a request to s's own address space.
func local(t *testing.T, s *Server, method, path, body string) (int, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := client(s).Do(r)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, out
}

func fault(t *testing.T, s *Server, body string) {
	t.Helper()
	status, out := local(t, s, http.MethodPost, "/_local/faults", body)
	require.Equal(t, http.StatusNoContent, status, "%s", out)
}

// requireCode holds an SDK's error to AWS's code and HTTP status.
func requireCode(t *testing.T, err error, code string, status int) {
	t.Helper()
	var api smithy.APIError
	require.ErrorAs(t, err, &api)
	require.Equal(t, code, api.ErrorCode())
	var response *smithyhttp.ResponseError
	require.ErrorAs(t, err, &response)
	require.Equal(t, status, response.HTTPStatusCode())
}

// bucket makes a bucket and a client that does not retry.
func bucket(t *testing.T, s *Server) (*awss3.Client, func(key, body string) error) {
	t.Helper()
	c := awss3.NewFromConfig(config(s), func(o *awss3.Options) { o.RetryMaxAttempts = 1 })
	_, err := c.CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: awssdk.String("bucket")})
	require.NoError(t, err)
	return c, func(key, body string) error {
		_, err := c.PutObject(t.Context(), &awss3.PutObjectInput{Bucket: awssdk.String("bucket"), Key: &key, Body: strings.NewReader(body)})
		return err
	}
}

func TestFaultsOfRequests(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	c, put := bucket(t, s)

	fault(t, s, `[{"service": "s3", "operation": "PutObject", "match": {"Key": "jobs/*"}, "skip": 1, "count": 2, "error": "SlowDown", "message": "Please reduce your request rate."}]`)
	require.NoError(t, put("other/1", "x"))
	require.NoError(t, put("jobs/1", "x"), "the first is skipped")
	for range 2 {
		requireCode(t, put("jobs/1", "x"), "SlowDown", http.StatusServiceUnavailable)
	}
	require.NoError(t, put("jobs/1", "x"), "two were asked for")

	fault(t, s, `[{"service": "s3", "operation": "PutObject", "after": true, "count": 1}, {"operation": "HeadObject", "drop": true, "count": 1}]`)
	require.Error(t, put("lost", "done"))
	head := func() error {
		_, err := c.HeadObject(t.Context(), &awss3.HeadObjectInput{Bucket: awssdk.String("bucket"), Key: awssdk.String("lost")})
		return err
	}
	require.Error(t, head())
	require.NoError(t, head(), "the lost put was carried out")

	large := strings.Repeat("0123456789", 100_000)
	require.NoError(t, put("large", large))
	fault(t, s, `[{"service": "s3", "operation": "GetObject", "truncate": 1000, "count": 1}]`)
	out, err := c.GetObject(t.Context(), &awss3.GetObjectInput{Bucket: awssdk.String("bucket"), Key: awssdk.String("large")})
	require.NoError(t, err)
	got, err := io.ReadAll(out.Body)
	require.Error(t, err)
	require.Equal(t, large[:1000], string(got))

	fault(t, s, `[{"service": "logs", "match": {"logGroupName": "a*"}, "error": "ThrottlingException", "message": "Rate exceeded", "status": 400}]`)
	l := cloudwatchlogs.NewFromConfig(config(s), func(o *cloudwatchlogs.Options) { o.RetryMaxAttempts = 1 })
	_, err = l.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: awssdk.String("abc")})
	requireCode(t, err, "ThrottlingException", http.StatusBadRequest)
	_, err = l.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: awssdk.String("bc")})
	require.NoError(t, err)

	_, listed := local(t, s, http.MethodGet, "/_local/faults", "")
	var list []Fault
	require.NoError(t, json.Unmarshal(listed, &list))
	require.Len(t, list, 5)
	require.Equal(t, 3, list[0].Seen)
	status, _ := local(t, s, http.MethodDelete, "/_local/faults", "")
	require.Equal(t, http.StatusNoContent, status)
	_, err = l.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: awssdk.String("abc")})
	require.NoError(t, err)
}

func TestFaultsOfJobs(t *testing.T) {
	t.Parallel()
	var q faults
	require.NoError(t, q.add([]byte(`[{"match": {"ResourceConfig.InstanceType": "ml.g5.*"}, "count": 1, "job": {"capacity": "failed", "delay": "1s"}}]`)))
	job := func(instance string) map[string]any {
		return map[string]any{"ResourceConfig": map[string]any{"InstanceType": instance}}
	}
	_, hit := q.Take(job("ml.m5.large"))
	require.False(t, hit)
	f, hit := q.Take(job("ml.g5.xlarge"))
	require.True(t, hit)
	require.Equal(t, sagemaker.JobFault{Capacity: "failed", Delay: 1e9}, f)
	_, hit = q.Take(job("ml.g5.xlarge"))
	require.False(t, hit)
}

func TestBadFaults(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no list":        `{}`,
		"unknown member": `[{"error": "x", "probability": 0.5}]`,
		"nothing":        `[{"service": "s3"}]`,
		"both":           `[{"error": "x", "job": {}}]`,
		"bad job":        `[{"job": {"capacity": "gone"}}]`,
		"negative":       `[{"drop": true, "count": -1}]`,
		"bad duration":   `[{"delay": "soon"}]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Error(t, new(faults).add([]byte(body)))
		})
	}
}

func TestFaultsFromAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "faults.json")
	require.NoError(t, os.WriteFile(path, []byte(`[{"operation": "ListBuckets", "error": "InternalError"}]`), 0o600))
	s := start(t, func(o *Options) { o.Faults = path })
	c := awss3.NewFromConfig(config(s), func(o *awss3.Options) { o.RetryMaxAttempts = 1 })
	_, err := c.ListBuckets(t.Context(), nil)
	requireCode(t, err, "InternalError", http.StatusInternalServerError)

	require.NoError(t, os.WriteFile(path, []byte(`{}`), 0o600))
	_, err = Start(t.Context(), Options{Listen: "127.0.0.1:0", Data: t.TempDir(), Faults: path})
	require.ErrorContains(t, err, path)
}

func TestRequestsAreCountedAndRecorded(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	_, put := bucket(t, s)
	require.NoError(t, put("a", "x"))
	require.NoError(t, put("b", "x"))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, bytes.NewReader([]byte(`{"TrainingJobName":"x"}`)))
	require.NoError(t, err)
	r.Header.Set("X-Amz-Target", "SageMaker.StopTrainingJob")
	resp, err := client(s).Do(r)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())

	_, out := local(t, s, http.MethodGet, "/_local/requests", "")
	var got Requests
	require.NoError(t, json.Unmarshal(out, &got))
	require.Equal(t, map[string]map[string]int{"s3": {"CreateBucket": 1, "PutObject": 2}, "sagemaker": {"StopTrainingJob": 1}}, got.Counts)
	require.Len(t, got.SageMaker, 1)
	require.Equal(t, "StopTrainingJob", got.SageMaker[0].Operation)
	require.JSONEq(t, `{"TrainingJobName":"x"}`, string(got.SageMaker[0].Body))
	local(t, s, http.MethodDelete, "/_local/requests", "")
	_, out = local(t, s, http.MethodGet, "/_local/requests", "")
	require.JSONEq(t, `{"counts":null,"sagemaker":null}`, string(out))
}
