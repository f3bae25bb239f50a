package e2e_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// The executor's requests are what AWS's own model of its API allows.
func TestRequestsAgainstBotocore(t *testing.T) {
	t.Parallel()
	python := needPython(t)
	s := startStack(t, stackOptions{concurrent: 6, settings: `
[tags]
"cost center" = "machine learning"
`})
	for name, variables := range map[string][]gitlab.Variable{
		"defaults": nil,
		"everything": {
			variable("SAGEMAKER_INSTANCE_TYPE", "ml.c5.xlarge, ml.m5.large"), variable("SAGEMAKER_INSTANCE_COUNT", "2"),
			variable("SAGEMAKER_VOLUME_SIZE_GB", "50"), variable("SAGEMAKER_MAX_RUNTIME", "30m"), variable("SAGEMAKER_KEEP_ALIVE", "5m"),
			variable("SAGEMAKER_HYPERPARAMETERS", `{"lr": 0.1, "layers": [1, 2], "name": "a b"}`), variable("SAGEMAKER_HP_EPOCHS", "3"),
			variable("SAGEMAKER_METRIC_LOSS", "loss=([0-9.]+)"), variable("SAGEMAKER_CHECKPOINTS", "true"),
		},
		"spot":  {variable("SAGEMAKER_SPOT", "true"), variable("SAGEMAKER_MAX_RUNTIME", "600"), variable("SAGEMAKER_MAX_WAIT", "20m")},
		"names": {variable("CI_COMMIT_REF_NAME", "feature/naïve & \"quoted\" ünï ✓"), variable("CI_JOB_NAME", "x")},
	} {
		t.Run(name, func(t *testing.T) {
			j := job{script: lines("echo fine"), variables: variables, change: func(p *gitlab.Payload) {
				p.JobInfo.Name = "train: [GPU, ünï ✓] " + string(bytes.Repeat([]byte("long "), 20))
				p.GitInfo.Ref = "feature/naïve & 'quoted' ✓"
				p.GitInfo.Refspecs = []string{"+refs/heads/main:refs/remotes/origin/main"}
			}}
			assert.Equal(t, gitlab.StateSuccess, s.run(t, j).State)
		})
	}

	var requests recorded
	require.NoError(t, json.Unmarshal(s.get(t, "/_local/requests"), &requests))
	var lines bytes.Buffer
	for _, request := range requests.SageMaker {
		require.NoError(t, json.NewEncoder(&lines).Encode(map[string]any{
			"service": "sagemaker", "operation": request.Operation, "body": request.Body,
		}))
	}
	script, err := filepath.Abs(filepath.Join("..", "testdata", "python", "check_requests.py"))
	require.NoError(t, err)
	cmd := exec.Command(python, script)
	cmd.Stdin = &lines
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, requests.Counts["sagemaker"]["CreateTrainingJob"], 4)
}

// What anyone who may call Describe sees holds no secret.
func TestNothingSecretInDescribe(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t-value-of-the-job"
	s := startStack(t, stackOptions{})
	got := s.run(t, job{
		script:    lines(`echo "value: $SECRET"`, `cat "$SECRET_FILE"`),
		variables: []gitlab.Variable{{Key: "SECRET", Value: secret, Masked: true}, {Key: "SECRET_FILE", Value: "in a file\n", File: true}},
	})
	assert.Equal(t, gitlab.StateSuccess, got.State)
	var requests recorded
	require.NoError(t, json.Unmarshal(s.get(t, "/_local/requests"), &requests))
	require.NotEmpty(t, requests.SageMaker)
	for _, request := range requests.SageMaker {
		assert.NotContains(t, string(request.Body), secret, request.Operation)
		assert.NotContains(t, string(request.Body), "in a file", request.Operation)
		assert.NotContains(t, string(request.Body), got.job.Token(), request.Operation)
	}
	log := s.cloudWatch(t)
	assert.Contains(t, log, "value: ", "the log is in CloudWatch")
	assert.NotContains(t, log, secret)
	assert.NotContains(t, log, got.job.Token())
}
