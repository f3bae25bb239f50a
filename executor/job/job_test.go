package job_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/job"
)

const payload = `{
"id": 401, "token": "secret-token",
"job_info": {"name": "proof", "stage": "test", "project_id": 7, "project_name": "demo", "project_full_path": "group/demo", "pipeline_id": 9, "instance_uuid": "8cc2f3d4"},
"git_info": {"repo_url": "http://gitlab-ci-token:secret-token@GitLab.example.com:8080/group/demo.git", "ref": "main", "sha": "0123", "ref_type": "branch", "protected": true},
"runner_info": {"timeout": 3600},
"variables": [
  {"key": "CI_JOB_ID", "value": "999"},
  {"key": "A", "value": "one"},
  {"key": "A", "value": "two $B"},
  {"key": "B", "value": "b $C"},
  {"key": "C", "value": "c"},
  {"key": "RAW", "value": "$C", "raw": true},
  {"key": "CERT", "value": "-----$C-----", "file": true},
  {"key": "USES_CERT", "value": "${CERT}/$MISSING/$$/$1"},
  {"key": "TOKEN", "value": "s3cr3t", "masked": true},
  {"key": "LONG", "value": "s3cr3t-and-more", "masked": true},
  {"key": "EMPTY", "value": "", "masked": true}],
"steps": [{"name": "script", "script": ["true"], "timeout": 3600, "when": "on_success"}, {"name": "after_script", "script": ["echo after"], "when": "always", "allow_failure": true}],
"image": {"name": "pytorch-$C", "entrypoint": ["/entry"]},
"services": [{"name": "postgres:16", "alias": "db"}],
"artifacts": [
  {"name": "out", "paths": ["out/$C"], "exclude": ["out/tmp"], "when": "on_success", "artifact_type": "archive", "artifact_format": "zip"},
  {"paths": ["sagemaker.env"], "when": "always", "artifact_type": "dotenv", "artifact_format": "gzip"}],
"cache": [{"key": "k", "paths": ["c"], "policy": "pull"}],
"features": {"token_mask_prefixes": ["glpat-"]},
"run": null}`

func TestParse(t *testing.T) {
	t.Parallel()

	file := filepath.Join(t.TempDir(), "response.json")
	require.NoError(t, os.WriteFile(file, []byte(payload), 0o600))
	j, err := job.Load(file)
	require.NoError(t, err)

	assert.Equal(t, int64(401), j.ID, "the trusted id, not CI_JOB_ID")
	assert.Equal(t, int64(7), j.ProjectID)
	assert.Equal(t, "group/demo", j.ProjectPath)
	assert.Equal(t, int64(9), j.PipelineID)
	assert.Equal(t, []string{"proof", "test", "main", "branch", "0123"}, []string{j.Name, j.Stage, j.Ref, j.RefType, j.SHA})
	assert.Equal(t, job.Protected, j.Protection())
	assert.Equal(t, time.Hour, j.Timeout)
	assert.Equal(t, "secret-token", j.Token)
	assert.False(t, j.Canary())
	assert.True(t, j.HasAfterScript())
	assert.Equal(t, []string{"/entry"}, j.Image.Entrypoint)
	assert.Equal(t, "db", j.Services[0].Alias)
	assert.Equal(t, "dotenv", j.Artifacts[1].Type)
	assert.Equal(t, "pull", j.Cache[0].Policy)
	assert.Equal(t, []string{"glpat-"}, j.MaskPrefixes)
	assert.Empty(t, j.Run)
	assert.Regexp(t, `^[0-9a-f]{8}$`, j.Instance)
}

func TestVariables(t *testing.T) {
	t.Parallel()

	j, err := job.Parse([]byte(payload))
	require.NoError(t, err)
	v := j.Variables.WithRunner([]string{
		"PATH=/bin", "CUSTOM_ENV_CI_PROJECT_DIR=/tmp/builds/401/group/demo",
		"CUSTOM_ENV_RUNNER_TEMP_PROJECT_DIR=/tmp/builds/401/group/demo.tmp", "CUSTOM_ENV_A=not this",
	})
	for key, want := range map[string]string{
		"A":              "two b $C", // references are expanded once, as the runner does
		"B":              "b c",
		"RAW":            "$C",
		"CERT":           "/tmp/builds/401/group/demo.tmp/CERT",
		"USES_CERT":      "/tmp/builds/401/group/demo.tmp/CERT//$/",
		"CI_PROJECT_DIR": "/tmp/builds/401/group/demo",
		"MISSING":        "",
		"PATH":           "",
	} {
		assert.Equal(t, want, v.Get(key), key)
	}
	assert.Equal(t, "-----c-----", v.Value("CERT"))
	assert.Equal(t, "two b $C:c", v.Expand("${A}:$C"))
	assert.Equal(t, []string{"s3cr3t-and-more", "s3cr3t"}, v.Masked())
	assert.True(t, v.Has("EMPTY"))
	assert.False(t, v.Has("MISSING"))
	assert.Len(t, j.Variables.Keys(), 10)
}

func TestSecretsComeFromTheRunnerAndAreMasked(t *testing.T) {
	t.Parallel()

	j, err := job.Parse([]byte(`{"id": 1, "job_info": {"project_id": 7}, "secrets": {"DB": {"vault": {}, "file": false}, "KEY": {"vault": {}}}}`))
	require.NoError(t, err)
	j.UseRunner([]string{"CUSTOM_ENV_DB=hush", "CUSTOM_ENV_KEY=hush-hush", "CUSTOM_ENV_CI_SERVER=yes", "CUSTOM_ENV_RUNNER_TEMP_PROJECT_DIR=/t"})
	assert.Equal(t, []string{"hush-hush", "hush"}, j.Variables.Masked())
	assert.Equal(t, "hush", j.Variables.Get("DB"))
	assert.Equal(t, "/t/KEY", j.Variables.Get("KEY"))
	assert.Equal(t, "yes", j.Variables.Get("CI_SERVER"))
}

func TestProtectionIsOpenWhereNothingSaysOtherwise(t *testing.T) {
	t.Parallel()

	for name, text := range map[string]string{
		"missing": `{"id": 1, "job_info": {"project_id": 7}, "git_info": {}}`,
		"null":    `{"id": 1, "job_info": {"project_id": 7}, "git_info": {"protected": null}}`,
		"false":   `{"id": 1, "job_info": {"project_id": 7}, "git_info": {"protected": false}}`,
		"forged":  `{"id": 1, "job_info": {"project_id": 7}, "git_info": {}, "variables": [{"key": "CI_COMMIT_REF_PROTECTED", "value": "true"}]}`,
	} {
		j, err := job.Parse([]byte(text))
		require.NoError(t, err, name)
		assert.Equal(t, job.Open, j.Protection(), name)
	}
}

func TestInstance(t *testing.T) {
	t.Parallel()

	parse := func(text string) *job.Job {
		j, err := job.Parse([]byte(text))
		require.NoError(t, err)
		return j
	}
	uuid := parse(`{"id": 1, "job_info": {"project_id": 7, "instance_uuid": "u"}, "git_info": {"repo_url": "https://a.example/x.git"}}`)
	host := parse(`{"id": 1, "job_info": {"project_id": 7}, "git_info": {"repo_url": "https://gitlab-ci-token:one@A.example/x.git"}}`)
	same := parse(`{"id": 2, "job_info": {"project_id": 7}, "git_info": {"repo_url": "https://gitlab-ci-token:two@a.example/y.git"}}`)
	other := parse(`{"id": 2, "job_info": {"project_id": 7}, "git_info": {"repo_url": "https://b.example/y.git"}}`)
	assert.Equal(t, host.Instance, same.Instance, "the host alone counts")
	assert.NotEqual(t, host.Instance, other.Instance)
	assert.NotEqual(t, host.Instance, uuid.Instance)
	uuid.UseInstance("")
	before := uuid.Instance
	uuid.UseInstance("production")
	other.UseInstance("production")
	assert.NotEqual(t, before, uuid.Instance)
	assert.Equal(t, uuid.Instance, other.Instance)
}

func TestRun(t *testing.T) {
	t.Parallel()

	for text, want := range map[string]string{
		``:                                     "",
		`, "run": ""`:                          "",
		`, "run": "[]"`:                        "",
		`, "run": []`:                          "",
		`, "run": "[{\"name\": \"a\"}]"`:       `[{"name": "a"}]`, // as the server sends it
		`, "run": [{"name":"a","step":"./x"}]`: `[{"name":"a","step":"./x"}]`,
	} {
		j, err := job.Parse([]byte(`{"id": 1, "job_info": {"project_id": 7}` + text + `}`))
		require.NoError(t, err)
		assert.Equal(t, want, j.Run, text)
	}
}

func TestHasUploads(t *testing.T) {
	t.Parallel()

	tests := map[string]struct {
		text               string
		succeeded, failing bool
	}{
		"nothing":           {``, false, false},
		"on success":        {`, "artifacts": [{"paths": ["a"]}]`, true, false},
		"on failure":        {`, "artifacts": [{"untracked": true, "when": "on_failure"}]`, false, true},
		"always":            {`, "artifacts": [{"paths": ["a"], "when": "always"}]`, true, true},
		"cache":             {`, "cache": [{"paths": ["a"], "policy": "pull-push"}]`, true, false},
		"cache only pulled": {`, "cache": [{"paths": ["a"], "policy": "pull", "when": "always"}]`, false, false},
	}
	for name, tt := range tests {
		j, err := job.Parse([]byte(`{"id": 1, "job_info": {"project_id": 7}` + tt.text + `}`))
		require.NoError(t, err)
		assert.Equal(t, tt.succeeded, j.HasUploads(true), name)
		assert.Equal(t, tt.failing, j.HasUploads(false), name)
	}
}

func TestDefaultsAndCanary(t *testing.T) {
	t.Parallel()

	j, err := job.Parse([]byte(`{"id": 9223372036854710273, "job_info": {"name": "boot-verify", "project_id": 0}, "git_info": {"repo_url": ""}}`))
	require.NoError(t, err)
	assert.True(t, j.Canary())
	assert.False(t, j.HasAfterScript())
	assert.Equal(t, job.DefaultTimeout, j.Timeout)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	assert.Equal(t, time.Hour, j.Remaining(start, start.Add(time.Hour)))
	assert.Zero(t, j.Remaining(start, start.Add(3*time.Hour)))
}

// A job that does not say who sent it must not pass for the runner's own.
func TestAJobHasAnIdentity(t *testing.T) {
	t.Parallel()

	for name, tt := range map[string]struct{ text, says string }{
		"nothing":         {`{}`, "id is missing"},
		"id 0":            {`{"id": 0, "job_info": {"project_id": 5}}`, "id is missing"},
		"negative id":     {`{"id": -1, "job_info": {"project_id": 5}}`, "id is missing"},
		"no job_info":     {`{"id": 1}`, "job_info is missing"},
		"job_info null":   {`{"id": 1, "job_info": null}`, "job_info is missing"},
		"negative":        {`{"id": 1, "job_info": {"project_id": -5}}`, "names no project"},
		"only repository": {`{"id": 1, "job_info": {"project_id": 0}, "git_info": {"repo_url": "https://hush@a.example/x.git"}}`, "a repository and no project"},
	} {
		_, err := job.Parse([]byte(tt.text))
		require.ErrorContains(t, err, tt.says, name)
		assert.NotContains(t, err.Error(), "hush", name)
	}
}

func TestLoadErrorsQuoteNothing(t *testing.T) {
	t.Parallel()

	for name, text := range map[string]string{
		"syntax": `{"token": "hush-hush", `,
		"type":   `{"id": "hush-hush"}`,
		"list":   `["hush-hush"]`,
		"text":   `hush-hush`,
	} {
		_, err := job.Parse([]byte(text))
		require.Error(t, err, name)
		assert.NotContains(t, err.Error(), "hush", name)
	}
	_, err := job.Load("")
	assert.ErrorContains(t, err, "JOB_RESPONSE_FILE is not set")
	_, err = job.Load(filepath.Join(t.TempDir(), "missing"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}
