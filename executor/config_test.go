package executor_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/gitlab-runner/executors/custom/api"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/settings"
)

func TestConfig(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	response, file := filepath.Join(dir, "response.json"), filepath.Join(dir, "settings.toml")
	require.NoError(t, os.WriteFile(response, []byte(`{"id": 401, "job_info": {"project_id": 7}, "runner_info": {"timeout": 600}, "variables": [{"key": "CI_JOB_ID", "value": "1"}]}`), 0o600))
	require.NoError(t, os.WriteFile(file, []byte("bucket = 'team'\n"), 0o600))

	var stdout bytes.Buffer
	err := executor.Config(t.Context(), executor.ConfigOptions{
		Settings: file, Set: []string{"region=eu-west-1"}, JobResponse: response, Version: "1.2.3",
		Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)), Stdout: &stdout,
	})
	require.NoError(t, err)

	var out api.ConfigExecOutput
	dec := json.NewDecoder(&stdout)
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&out))
	assert.False(t, dec.More(), "JSON and nothing else")
	assert.Equal(t, "/tmp/builds/401", *out.BuildsDir)
	assert.Equal(t, "/tmp/cache", *out.CacheDir)
	assert.False(t, *out.BuildsDirIsShared)
	assert.Equal(t, "bash", *out.Shell)
	assert.Equal(t, "sagemaker-executor", *out.Driver.Name)
	assert.Equal(t, "1.2.3", *out.Driver.Version)
	env := *out.JobEnv
	require.Len(t, env, 4)
	assert.Equal(t, "2026-01-02T02:14:05Z", env[settings.EnvDeadline])
	s, err := settings.Decode(env[settings.EnvSettings])
	require.NoError(t, err)
	assert.Equal(t, "eu-west-1", s.Region)
	assert.Equal(t, file, s.File)
}

func TestConfigPrintsNothingWithAnError(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	response := filepath.Join(dir, "response.json")
	require.NoError(t, os.WriteFile(response, []byte(`{"id": 401, "job_info": {"project_id": 7}}`), 0o600))
	for name, o := range map[string]executor.ConfigOptions{
		"no job":      {},
		"no settings": {JobResponse: response, Settings: filepath.Join(dir, "none.toml")},
	} {
		var stdout bytes.Buffer
		o.Stdout = &stdout
		assert.Error(t, executor.Config(t.Context(), o), name)
		assert.Empty(t, stdout.String(), name)
	}
}
