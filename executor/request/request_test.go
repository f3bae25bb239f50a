package request_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/job"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/request"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/settings"
)

const (
	role  = "arn:aws:iam::123456789012:role/gitlab"
	image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/train:1"
)

// vars are variables in the order of their precedence.
type vars map[string]string

func newJob(t *testing.T, v vars) *job.Job {
	t.Helper()
	type variable struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	var list []variable
	for key, text := range v {
		list = append(list, variable{key, text})
	}
	data, err := json.Marshal(map[string]any{
		"id":          401,
		"job_info":    map[string]any{"name": "train: [0.1, adam]", "project_id": 7, "instance_uuid": "uuid"},
		"git_info":    map[string]any{"sha": "0123456789abcdef0123456789abcdef01234567", "protected": true},
		"runner_info": map[string]any{"timeout": 3600},
		"image":       map[string]any{"name": image},
		"variables":   list,
	})
	require.NoError(t, err)
	j, err := job.Parse(data)
	require.NoError(t, err)
	return j
}

func newSettings() *settings.Settings {
	s := settings.Default()
	s.File = "settings.toml"
	s.Region = "eu-west-1"
	s.Bucket = "team"
	s.Prefix = "ci"
	s.RoleARN = role
	return s
}

func TestResolveDefaults(t *testing.T) {
	t.Parallel()

	r, err := request.Resolve(newJob(t, nil), newSettings(), 50*time.Minute)
	require.NoError(t, err)

	assert.Equal(t, request.KindTraining, r.Kind)
	assert.Equal(t, []string{"ml.m5.large"}, r.InstanceTypes)
	assert.Equal(t, 50*time.Minute, r.MaxRuntime)
	assert.Zero(t, r.MaxWait)
	assert.Zero(t, r.KeepAlive)
	assert.Empty(t, r.Notes)
	in := r.Create
	assert.Equal(t, role, aws.ToString(in.RoleArn))
	assert.Equal(t, image, aws.ToString(in.AlgorithmSpecification.TrainingImage))
	assert.Equal(t, types.TrainingInputModeFile, in.AlgorithmSpecification.TrainingInputMode)
	assert.Equal(t, types.TrainingInstanceTypeMlM5Large, in.ResourceConfig.InstanceType)
	assert.EqualValues(t, 1, *in.ResourceConfig.InstanceCount)
	assert.Equal(t, 1, r.Instances)
	assert.EqualValues(t, 30, *in.ResourceConfig.VolumeSizeInGB)
	assert.EqualValues(t, 3000, *in.StoppingCondition.MaxRuntimeInSeconds)
	assert.Nil(t, in.StoppingCondition.MaxWaitTimeInSeconds)
	assert.Regexp(t, `^s3://team/ci/models/[0-9a-f]{8}/7/protected$`, *in.OutputDataConfig.S3OutputPath)
	assert.Nil(t, in.TrainingJobName)
	assert.Nil(t, in.CheckpointConfig)
	assert.Nil(t, in.VpcConfig)
	assert.Empty(t, in.Tags)
}

func TestResolveVariables(t *testing.T) {
	t.Parallel()

	tests := map[string]struct {
		vars  vars
		check func(t *testing.T, r *request.Request)
	}{
		"preference list": {
			vars{"SAGEMAKER_INSTANCE_TYPE": "ml.g5.xlarge, ml.g4dn.xlarge"},
			func(t *testing.T, r *request.Request) {
				assert.Equal(t, []string{"ml.g5.xlarge", "ml.g4dn.xlarge"}, r.InstanceTypes)
				assert.Equal(t, types.TrainingInstanceTypeMlG5Xlarge, r.Create.ResourceConfig.InstanceType)
			},
		},
		"resources": {
			vars{"SAGEMAKER_INSTANCE_COUNT": "2", "SAGEMAKER_VOLUME_SIZE_GB": "100", "SAGEMAKER_KEEP_ALIVE": "10m", "SAGEMAKER_MAX_RUNTIME": "1800"},
			func(t *testing.T, r *request.Request) {
				assert.EqualValues(t, 2, *r.Create.ResourceConfig.InstanceCount)
				assert.EqualValues(t, 100, *r.Create.ResourceConfig.VolumeSizeInGB)
				assert.EqualValues(t, 600, *r.Create.ResourceConfig.KeepAlivePeriodInSeconds)
				assert.Equal(t, 10*time.Minute, r.KeepAlive)
				assert.Equal(t, 30*time.Minute, r.MaxRuntime)
			},
		},
		"spot waits for what is left": {
			vars{"SAGEMAKER_SPOT": "true", "SAGEMAKER_MAX_RUNTIME": "30m"},
			func(t *testing.T, r *request.Request) {
				assert.True(t, r.Spot)
				assert.Equal(t, 30*time.Minute, r.MaxRuntime)
				assert.Equal(t, time.Hour, r.MaxWait)
				assert.EqualValues(t, 3600, *r.Create.StoppingCondition.MaxWaitTimeInSeconds)
			},
		},
		"a wait alone bounds the run": {
			vars{"SAGEMAKER_SPOT": "yes", "SAGEMAKER_MAX_WAIT": "20m"},
			func(t *testing.T, r *request.Request) {
				assert.Equal(t, 20*time.Minute, r.MaxRuntime)
				assert.Equal(t, 20*time.Minute, r.MaxWait)
			},
		},
		"checkpoints of a retry": {
			vars{"SAGEMAKER_CHECKPOINTS": "true"},
			func(t *testing.T, r *request.Request) {
				assert.Regexp(t, `^0123456789abcdef-train-0.1-adam-[0-9a-f]{8}$`, r.CheckpointKey)
				assert.Regexp(t, `^s3://team/ci/checkpoints/[0-9a-f]{8}/7/protected/`+r.CheckpointKey+`$`, *r.Create.CheckpointConfig.S3Uri)
			},
		},
		"checkpoints by key": {
			vars{"SAGEMAKER_CHECKPOINTS": "run-3"},
			func(t *testing.T, r *request.Request) { assert.Equal(t, "run-3", r.CheckpointKey) },
		},
		"channels": {
			vars{"SAGEMAKER_INPUT_TRAIN": "s3://data/train", "SAGEMAKER_INPUT_Val_Set": "s3://data/val,fastfile"},
			func(t *testing.T, r *request.Request) {
				require.Len(t, r.Create.InputDataConfig, 2)
				byName := map[string]types.Channel{}
				for _, c := range r.Create.InputDataConfig {
					byName[*c.ChannelName] = c
				}
				assert.Equal(t, "s3://data/train", *byName["train"].DataSource.S3DataSource.S3Uri)
				assert.Equal(t, types.TrainingInputModeFile, byName["train"].InputMode)
				assert.Equal(t, "s3://data/val/", *byName["val_set"].DataSource.S3DataSource.S3Uri)
				assert.Equal(t, types.TrainingInputModeFastfile, byName["val_set"].InputMode)
			},
		},
		"hyperparameters": {
			vars{"SAGEMAKER_HYPERPARAMETERS": `{"lr": 1e-3, "opt": "adam", "layers": [1, 2], "deep": true, "none": null}`, "SAGEMAKER_HP_LR": "0.1", "SAGEMAKER_HP_maxDepth": "3"},
			func(t *testing.T, r *request.Request) {
				assert.Equal(t, map[string]string{"lr": "0.1", "opt": "adam", "layers": "[1,2]", "deep": "true", "none": "null", "maxDepth": "3"}, r.Create.HyperParameters)
			},
		},
		"metrics": {
			vars{"SAGEMAKER_METRIC_LOSS": `loss=([0-9.]+)`},
			func(t *testing.T, r *request.Request) {
				assert.Equal(t, []request.Metric{{Name: "loss", Regex: `loss=([0-9.]+)`}}, r.Metrics)
				assert.Len(t, r.Create.AlgorithmSpecification.MetricDefinitions, 1)
			},
		},
		"image entrypoint": {
			vars{"SAGEMAKER_ENTRYPOINT": "image"},
			func(t *testing.T, r *request.Request) { assert.Equal(t, request.EntrypointImage, r.Entrypoint.Mode) },
		},
		"explicit entrypoint": {
			vars{"SAGEMAKER_ENTRYPOINT": `["/e.sh", "a b"]`},
			func(t *testing.T, r *request.Request) {
				assert.Equal(t, request.Entrypoint{Mode: request.EntrypointExplicit, Args: []string{"/e.sh", "a b"}}, r.Entrypoint)
			},
		},
		"the default role by name": {
			vars{"SAGEMAKER_ROLE_ARN": role},
			func(t *testing.T, r *request.Request) { assert.Equal(t, role, *r.Create.RoleArn) },
		},
		"empty is unset, results and other tools are ignored": {
			vars{"SAGEMAKER_SPOT": "", "SAGEMAKER_OUT_MODEL_DATA": "x", "SAGEMAKER_PROGRAM": "train.py"},
			func(t *testing.T, r *request.Request) { assert.False(t, r.Spot) },
		},
		"blanks count where they may": {
			vars{"SAGEMAKER_HP_SEP": " ", "SAGEMAKER_SPOT": " true "},
			func(t *testing.T, r *request.Request) {
				assert.Equal(t, " ", r.Create.HyperParameters["sep"])
				assert.True(t, r.Spot)
			},
		},
		"references": {
			vars{"SIZE": "ml.c5.xlarge", "SAGEMAKER_INSTANCE_TYPE": "$SIZE"},
			func(t *testing.T, r *request.Request) { assert.Equal(t, []string{"ml.c5.xlarge"}, r.InstanceTypes) },
		},
		"more than the time-out is noted": {
			vars{"SAGEMAKER_MAX_RUNTIME": "2h"},
			func(t *testing.T, r *request.Request) {
				assert.Equal(t, 2*time.Hour, r.MaxRuntime)
				require.Len(t, r.Notes, 1)
				assert.Contains(t, r.Notes[0], "the variable SAGEMAKER_MAX_RUNTIME is 2h and only 1h are left")
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := request.Resolve(newJob(t, tt.vars), newSettings(), time.Hour)
			require.NoError(t, err)
			tt.check(t, r)
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	t.Parallel()

	tests := map[string]struct {
		vars vars
		code int
		text string
	}{
		"family's prefix":      {vars{"SAGEMAKER_INPUT_": "s3://data/a"}, failure.CodeInvalid, "the variable SAGEMAKER_INPUT_ lacks the name at its end: write SAGEMAKER_INPUT_<CHANNEL>"},
		"typing mistake":       {vars{"SAGEMAKER_INSTANCETYPE": "x"}, failure.CodeInvalid, "unknown variable SAGEMAKER_INSTANCETYPE: did you mean SAGEMAKER_INSTANCE_TYPE?"},
		"instance type":        {vars{"SAGEMAKER_INSTANCE_TYPE": "ml.m5.lrage"}, failure.CodeInvalid, "did you mean ml.m5.large?"},
		"instance type twice":  {vars{"SAGEMAKER_INSTANCE_TYPE": "ml.m5.large,ml.m5.large"}, failure.CodeInvalid, "each instance type once"},
		"empty type in list":   {vars{"SAGEMAKER_INSTANCE_TYPE": "ml.m5.large,,ml.m5.xlarge"}, failure.CodeInvalid, "such as ml.m5.large, without empty items"},
		"EC2's instance type":  {vars{"SAGEMAKER_INSTANCE_TYPE": "g5.xlarge"}, failure.CodeInvalid, `("g5.xlarge" is EC2's name: write ml.g5.xlarge)`},
		"count":                {vars{"SAGEMAKER_INSTANCE_COUNT": "two"}, failure.CodeInvalid, `the variable SAGEMAKER_INSTANCE_COUNT is "two": allowed is a whole number, 1 or more`},
		"count over policy":    {vars{"SAGEMAKER_INSTANCE_COUNT": "9"}, failure.CodePolicy, "the variable SAGEMAKER_INSTANCE_COUNT is 9: allowed is 1 to 4 (policy.max_instance_count, the default, not set in settings.toml)"},
		"volume":               {vars{"SAGEMAKER_VOLUME_SIZE_GB": "0"}, failure.CodeInvalid, "1 to 16384"},
		"volume over policy":   {vars{"SAGEMAKER_VOLUME_SIZE_GB": "2000"}, failure.CodePolicy, "1 to 1024"},
		"spot":                 {vars{"SAGEMAKER_SPOT": "maybe"}, failure.CodeInvalid, `the variable SAGEMAKER_SPOT is "maybe": allowed is true or false`},
		"runtime":              {vars{"SAGEMAKER_MAX_RUNTIME": "1 hour"}, failure.CodeInvalid, `SAGEMAKER_MAX_RUNTIME is "1 hour"`},
		"runtime over AWS":     {vars{"SAGEMAKER_MAX_RUNTIME": "29d"}, failure.CodeInvalid, "from 1s to 672h"},
		"runtime over policy":  {vars{"SAGEMAKER_MAX_RUNTIME": "6d"}, failure.CodePolicy, "the variable SAGEMAKER_MAX_RUNTIME is 6d: allowed is up to 120h (policy.max_runtime"},
		"wait without spot":    {vars{"SAGEMAKER_MAX_WAIT": "1h"}, failure.CodeInvalid, "set without spot"},
		"wait below runtime":   {vars{"SAGEMAKER_SPOT": "1", "SAGEMAKER_MAX_WAIT": "10m", "SAGEMAKER_MAX_RUNTIME": "1200"}, failure.CodeInvalid, "the variable SAGEMAKER_MAX_WAIT is 10m and the variable SAGEMAKER_MAX_RUNTIME is 1200: the wait includes the run and must not be shorter"},
		"spot with warm pool":  {vars{"SAGEMAKER_SPOT": "1", "SAGEMAKER_KEEP_ALIVE": "10m"}, failure.CodeInvalid, "leave one of them out"},
		"keep alive over AWS":  {vars{"SAGEMAKER_KEEP_ALIVE": "7h"}, failure.CodeInvalid, "from 0 to 6h"},
		"keep alive policy":    {vars{"SAGEMAKER_KEEP_ALIVE": "2h"}, failure.CodePolicy, "the variable SAGEMAKER_KEEP_ALIVE is 2h: allowed is up to 1h"},
		"checkpoint key":       {vars{"SAGEMAKER_CHECKPOINTS": "../x"}, failure.CodeInvalid, "SAGEMAKER_CHECKPOINTS"},
		"input no URI":         {vars{"SAGEMAKER_INPUT_TRAIN": "/data"}, failure.CodeInvalid, `the variable SAGEMAKER_INPUT_TRAIN is "/data": allowed is s3://BUCKET/KEY of at most 1024 characters, and optionally a comma and File, FastFile or Pipe`},
		"input bucket":         {vars{"SAGEMAKER_INPUT_A__B": "s3://b/k"}, failure.CodeInvalid, `is "s3://b/k": allowed is an S3 bucket's name of 3 to 63 of a-z, 0-9, dot and hyphen, which "b" is not`},
		"input mode":           {vars{"SAGEMAKER_INPUT_TRAIN": "s3://b-1/x,Fast"}, failure.CodeInvalid, "FastFile"},
		"input of exchange":    {vars{"SAGEMAKER_INPUT_TRAIN": "s3://team/ci/jobs/a"}, failure.CodePolicy, `the variable SAGEMAKER_INPUT_TRAIN is "s3://team/ci/jobs/a": allowed is any place without the exchange of jobs`},
		"input around us":      {vars{"SAGEMAKER_INPUT_TRAIN": "s3://team/c"}, failure.CodePolicy, "exchange of jobs"},
		"input of others":      {vars{"SAGEMAKER_INPUT_TRAIN": "s3://team/ci/models/x/8/open/"}, failure.CodePolicy, "policy.s3_inputs"},
		"hyperparameters":      {vars{"SAGEMAKER_HYPERPARAMETERS": "[1]"}, failure.CodeInvalid, "a JSON object"},
		"hyperparameter long":  {vars{"SAGEMAKER_HP_X": string(make([]byte, 2501))}, failure.CodeInvalid, "SAGEMAKER_HP_X"},
		"hyperparameter twice": {vars{"SAGEMAKER_HP_X": "1", "SAGEMAKER_HP_x": "2"}, failure.CodeInvalid, "the same hyperparameter"},
		"metric":               {vars{"SAGEMAKER_METRIC_LOSS": "loss=("}, failure.CodeInvalid, "a regular expression"},
		"metric without group": {vars{"SAGEMAKER_METRIC_LOSS": "loss"}, failure.CodeInvalid, "one group"},
		"role":                 {vars{"SAGEMAKER_ROLE_ARN": "admin"}, failure.CodeInvalid, "the ARN of an IAM role"},
		"role of others":       {vars{"SAGEMAKER_ROLE_ARN": "arn:aws:iam::123456789012:role/admin"}, failure.CodePolicy, "policy.roles"},
		"kind later":           {vars{"SAGEMAKER_JOB": "processing"}, failure.CodeInvalid, "which this version does not have: it has training and host"},
		"kind unknown":         {vars{"SAGEMAKER_JOB": "trainig"}, failure.CodeInvalid, "allowed is training or host"},
		"kind host":            {vars{"SAGEMAKER_JOB": "host"}, failure.CodePolicy, "policy.kinds"},
		"spec outside":         {vars{"SAGEMAKER_SPEC": "../x.yml"}, failure.CodeInvalid, "SAGEMAKER_SPEC"},
		"entrypoint":           {vars{"SAGEMAKER_ENTRYPOINT": `["a"`}, failure.CodeInvalid, "SAGEMAKER_ENTRYPOINT"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := request.Resolve(newJob(t, tt.vars), newSettings(), time.Hour)
			build, ok := failure.AsBuild(err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, tt.code, build.Code, err.Error())
			assert.Contains(t, err.Error(), tt.text)
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestWithSpec(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "spec.yml"), []byte(`
HyperParameters: {epochs: 3, lr: 0.5}
ResourceConfig:
  InstanceType: ml.c5.xlarge
  VolumeSizeInGB: 77
InputDataConfig:
  - ChannelName: train
    DataSource: {S3DataSource: {S3DataType: S3Prefix, S3Uri: "s3://data/a"}}
`), 0o600))
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = root.Close() })

	r, err := request.Resolve(newJob(t, vars{"SAGEMAKER_SPEC": "spec.yml", "SAGEMAKER_INSTANCE_TYPE": "ml.m5.xlarge", "SAGEMAKER_HP_LR": "1"}), newSettings(), time.Hour)
	require.NoError(t, err)
	assert.Equal(t, "spec.yml", r.Spec)
	r, err = r.WithSpec(root, 59*time.Minute)
	require.NoError(t, err)
	assert.Equal(t, []string{"ml.m5.xlarge"}, r.InstanceTypes)
	assert.EqualValues(t, 77, *r.Create.ResourceConfig.VolumeSizeInGB)
	assert.Equal(t, map[string]string{"epochs": "3", "lr": "1"}, r.Create.HyperParameters)
	assert.Len(t, r.Create.InputDataConfig, 1)
	assert.Equal(t, 59*time.Minute, r.MaxRuntime)
}
