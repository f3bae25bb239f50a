package settings_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/settings"
)

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "s.toml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func TestLoad(t *testing.T) {
	t.Parallel()

	file := write(t, `
bucket = "team"
region = "eu-west-1"
images."python:3.12" = "e/python"

[policy]
max_runtime = "2h"
instance_types = ["ml.g5.*"]

[tags]
team = "a"
`)
	s, err := settings.Load(file, []string{
		"PATH=/bin", "AWS_REGION=us-east-1",
		"SAGEMAKER_EXECUTOR_SETTINGS=ignored", "SAGEMAKER_EXECUTOR_DEADLINE=ignored",
		"SAGEMAKER_EXECUTOR_DEFAULTS_INSTANCE_COUNT=2",
		"SAGEMAKER_EXECUTOR_DEFAULTS_INSTANCE_TYPE=ml.m5.xlarge, ml.m5.large",
		"SAGEMAKER_EXECUTOR_POLICY_MAX_RUNTIME=3h",
	}, []string{"policy.max_runtime=4h", "policy.spot=false", "images.gpu=e/gpu", "agent.log_limit=100000", "kms.output_key=alias/x"})
	require.NoError(t, err)

	assert.Equal(t, "team", s.Bucket)
	assert.Equal(t, "team", s.Exchange())
	assert.Equal(t, "eu-west-1", s.Region, "the file wins over AWS_REGION")
	assert.Equal(t, 4*time.Hour, s.Policy.MaxRuntime.D())
	assert.Equal(t, []string{"ml.g5.*"}, s.Policy.InstanceTypes)
	assert.False(t, s.Policy.Spot)
	assert.Equal(t, 2, s.Defaults.InstanceCount)
	assert.Equal(t, []string{"ml.m5.xlarge", "ml.m5.large"}, s.Defaults.InstanceType)
	assert.Equal(t, map[string]string{"python:3.12": "e/python", "gpu": "e/gpu"}, s.Images)
	assert.Equal(t, map[string]string{"team": "a"}, s.Tags)
	assert.Equal(t, int64(100000), s.Agent.LogLimit)
	assert.Equal(t, "sagemaker-executor", s.Prefix, "a default")

	assert.Equal(t, file+":2", s.Where("bucket"))
	assert.Equal(t, file+":8", s.Where("policy.instance_types"))
	assert.Equal(t, "--set", s.Where("policy.max_runtime"))
	assert.Equal(t, "$SAGEMAKER_EXECUTOR_DEFAULTS_INSTANCE_COUNT", s.Where("defaults.instance_count"))
	assert.Equal(t, "the default, not set in "+file, s.Where("prefix"))
	assert.Equal(t, file, s.Place("prefix"))
	assert.Equal(t, file+":2", s.Place("bucket"))

	again, err := settings.Decode(s.Encode())
	require.NoError(t, err)
	assert.Equal(t, s, again)
}

func TestRegion(t *testing.T) {
	t.Parallel()

	file := write(t, `bucket = "team"`)
	s, err := settings.Load(file, []string{"AWS_DEFAULT_REGION=eu-north-1", "AWS_REGION=us-east-1"}, nil)
	require.NoError(t, err)
	assert.Equal(t, "us-east-1", s.Region)
	assert.Equal(t, "$AWS_REGION", s.Where("region"))
}

func TestPrefix(t *testing.T) {
	t.Parallel()

	for text, want := range map[string]string{"a/b": "a/b", "/a/": "a", "": "sagemaker-executor", "/": "sagemaker-executor"} {
		s, err := settings.Load(write(t, "bucket = 'team'\nprefix = '"+text+"'"), nil, nil)
		require.NoError(t, err)
		assert.Equal(t, want, s.Prefix, text)
	}
}

func TestLoadErrors(t *testing.T) {
	t.Parallel()

	const ok = "bucket = \"team\"\n"
	tests := map[string]struct {
		file     string
		env, set []string
		text     string // after the file's name
	}{
		"syntax":            {file: ok + "region = ", text: ":2: "},
		"unknown key":       {file: ok + "regoin = 'x'", text: ":2: unknown key regoin: did you mean region?"},
		"unknown in table":  {file: ok + "[policy]\n\nmax_run_time = '1h'", text: ":4: unknown key policy.max_run_time: did you mean policy.max_runtime?"},
		"unknown table":     {file: ok + "[polcy]\nspot = true", text: ":2: unknown key polcy"},
		"wrong type":        {file: ok + "[defaults]\ninstance_count = 'two'", text: ":3: defaults.instance_count: "},
		"wrong duration":    {file: ok + "[waits]\nquota_wait = '1 hour'", text: `:3: waits.quota_wait: "1 hour" is no duration: write it like 90s, 15m or 1h30m`},
		"negative duration": {file: ok + "[waits]\nquota_wait = '-1h'", text: ":3: waits.quota_wait: "},
		"no bucket":         {file: "region = 'us-east-1'", text: ": bucket is \"\": allowed is the name of an S3 bucket"},
		"bucket":            {file: "bucket = 's3://team'", text: `:1: bucket is "s3://team": allowed is`},
		"region":            {file: ok + "region = 'mars-1'", text: `:2: region is "mars-1": allowed is an AWS region such as eu-west-1`},
		"role":              {file: ok + "role_arn = 'admin'", text: `:2: role_arn is "admin"`},
		"endpoint":          {file: ok + "endpoint_url = 'localhost:4566'", text: `:2: endpoint_url is "localhost:4566": allowed is empty (AWS) or an http:// or https:// URL`},
		"prefix":            {file: ok + "prefix = 'x//y'", text: ":2: prefix is"},
		"work dir":          {file: ok + "work_dir = 'x'", text: ":2: work_dir is \"x\": allowed is an absolute path"},
		"kind":              {file: ok + "[defaults]\nkind = 'host'", text: `:3: defaults.kind is "host": allowed is one of policy.kinds (training)`},
		"policy kind":       {file: ok + "[policy]\nkinds = ['training', 'magic']", text: `:3: policy.kinds is "magic": allowed is training, host`},
		"instance type":     {file: ok + "[defaults]\ninstance_type = ['m5.large']", text: `:3: defaults.instance_type is "m5.large"`},
		"no instance type":  {file: ok + "[defaults]\ninstance_type = []", text: ":3: defaults.instance_type is []"},
		"glob":              {file: ok + "[policy]\nroles = ['arn[']", text: `:3: policy.roles is "arn["`},
		"URI":               {file: ok + "[policy]\ns3_inputs = ['/data/*']", text: ":3: policy.s3_inputs"},
		"keep alive":        {file: ok + "[defaults]\nkeep_alive = '7h'", text: ":3: defaults.keep_alive is 7h0m0s: allowed is 0 to 6h"},
		"spot, keep alive":  {file: ok + "[defaults]\nkeep_alive = '1h'\nspot = true", text: ":3: defaults.keep_alive"},
		"grace":             {file: ok + "[agent]\nstop_grace = '5m'", text: ":3: agent.stop_grace is 5m0s: allowed is above 0 and below 5m"},
		"cloudwatch":        {file: ok + "[agent]\ncloudwatch = 'some'", text: ":3: agent.cloudwatch is \"some\": allowed is full, metrics, off"},
		"network":           {file: ok + "[network]\nsubnets = ['subnet-1']", text: "network.security_groups is []: allowed is both"},
		"our tag":           {file: ok + "[tags]\n'gitlab:x' = 'a'", text: `:3: tags.gitlab:x is "gitlab:x"`},
		"tag text":          {file: ok + "[tags]\na = 'x;y'", text: `:3: tags.a is "x;y"`},
		"image":             {file: ok + "[images]\na = 'x y'", text: ":3: images.a"},
		"unknown variable":  {file: ok, env: []string{"SAGEMAKER_EXECUTOR_REGOIN=x"}, text: "unknown environment variable SAGEMAKER_EXECUTOR_REGOIN: did you mean SAGEMAKER_EXECUTOR_REGION?"},
		"variable":          {file: ok, env: []string{"SAGEMAKER_EXECUTOR_DEFAULTS_SPOT=x"}, text: `$SAGEMAKER_EXECUTOR_DEFAULTS_SPOT: defaults.spot is "x": allowed is true or false`},
		"variable, checked": {file: ok, env: []string{"SAGEMAKER_EXECUTOR_PREFIX=a b"}, text: `$SAGEMAKER_EXECUTOR_PREFIX: prefix is "a b"`},
		"flag key":          {file: ok, set: []string{"policy.spott=true"}, text: "--set: unknown key policy.spott: did you mean policy.spot?"},
		"flag table":        {file: ok, set: []string{"policy=true"}, text: "--set: unknown key policy"},
		"flag name":         {file: ok, set: []string{"images=x"}, text: "images.NAME=VALUE"},
		"flag number":       {file: ok, set: []string{"defaults.instance_count=x"}, text: "a whole number"},
		"flag form":         {file: ok, set: []string{"policy.spot"}, text: "write it as table.key=value"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := write(t, tt.file)
			_, err := settings.Load(file, tt.env, tt.set)
			require.Error(t, err)
			text := tt.text
			if len(text) > 0 && text[0] == ':' && text[1] != ' ' {
				text = file + text
			}
			assert.Contains(t, err.Error(), text)
		})
	}
}

func TestLoadMissingFile(t *testing.T) {
	t.Parallel()

	_, err := settings.Load(filepath.Join(t.TempDir(), "none.toml"), nil, nil)
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "none.toml")
}

func TestDecodeRefusesOtherText(t *testing.T) {
	t.Parallel()

	for _, text := range []string{"", "x", `{"Regoin": "x"}`} {
		_, err := settings.Decode(text)
		assert.ErrorContains(t, err, settings.EnvSettings)
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()

	tests := map[string]struct {
		glob, text string
		want       bool
	}{
		"star crosses slashes": {"s3://b/*", "s3://b/x/y", true},
		"prefix ends":          {"s3://b/data/*", "s3://b/data-2/x", false},
		"alternatives":         {"ml.{g5,p4d}.*", "ml.p4d.24xlarge", true},
		"case counts":          {"ml.g5.*", "ML.G5.large", false},
		"literal":              {"RoleArn", "RoleArn", true},
		"whole text":           {"Role", "RoleArn", false},
		"question mark":        {"ml.g?.xlarge", "ml.g5.xlarge", true},
	}
	for name, tt := range tests {
		assert.Equal(t, tt.want, settings.Match([]string{"never", tt.glob}, tt.text), name)
	}
}
