package request_test

import (
	"os"
	"path/filepath"
	"syscall"
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

// withSpec resolves a job whose spec is a file-type variable.
func withSpec(t *testing.T, spec string, v vars, change func(*settings.Settings)) (*request.Request, error) {
	t.Helper()
	j := newJob(t, v)
	j.Variables = append(j.Variables, job.Variable{Key: "SAGEMAKER_SPEC", Value: spec, File: true, Raw: true})
	s := newSettings()
	if change != nil {
		change(s)
	}
	return request.Resolve(j, s, time.Hour)
}

func all(s *settings.Settings) {
	s.Policy.SpecFields = []string{"*"}
	s.Policy.S3Outputs = []string{"s3://out/*"}
}

func TestSpecHasEveryFieldOfTheRequest(t *testing.T) {
	t.Parallel()

	r, err := withSpec(t, `{
"RetryStrategy": {"MaximumRetryAttempts": 2},
"AlgorithmSpecification": {"TrainingImage": "ignored: image: wins", "TrainingInputMode": "FastFile",
  "MetricDefinitions": [{"Name": "validation:loss", "Regex": "v=(.*)"}],
  "TrainingImageConfig": {"TrainingRepositoryAccessMode": "Vpc"}},
"ResourceConfig": {"InstancePreferences": [{"InstanceType": "ml.g5.xlarge", "InstanceCount": 2}, {"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 2}], "VolumeSizeInGB": 50},
"StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxPendingTimeInSeconds": 7200},
"InputDataConfig": [
  {"ChannelName": "a", "ShuffleConfig": {"Seed": 3}, "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/a"}}},
  {"ChannelName": "b", "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/b"}}},
  {"ChannelName": "fs", "DataSource": {"FileSystemDataSource": {"FileSystemId": "fs-12345678", "FileSystemAccessMode": "ro", "FileSystemType": "EFS", "DirectoryPath": "/x"}}}],
"Environment": {"MODE": "quick"},
"HyperParameters": {"n": 10000000000000000000001, "s": "x", "o": {"a": [1.50]}},
"DebugHookConfig": {"S3OutputPath": "s3://out/debug", "HookParameters": {"a": "b"}, "CollectionConfigurations": [{"CollectionName": "c"}]},
"ProfilerConfig": {"DisableProfiler": true},
"TensorBoardOutputConfig": {"S3OutputPath": "s3://out/tb"},
"OutputDataConfig": {"S3OutputPath": "s3://out/model", "CompressionType": "NONE"},
"CheckpointConfig": {"S3Uri": "s3://out/cp", "LocalPath": "/opt/ml/cp"},
"Tags": [{"Key": "team", "Value": "a"}],
"EnableInterContainerTrafficEncryption": true,
"SessionChainingConfig": null}`, vars{"SAGEMAKER_INPUT_B": "s3://data/b2", "SAGEMAKER_METRIC_LOSS": "l=(.*)"}, all)
	require.NoError(t, err)

	in := r.Create
	assert.Equal(t, image, *in.AlgorithmSpecification.TrainingImage)
	assert.Equal(t, types.TrainingInputModeFastfile, in.AlgorithmSpecification.TrainingInputMode)
	assert.Len(t, r.Metrics, 2)
	assert.Equal(t, []string{""}, r.InstanceTypes, "AWS chooses among the preferences")
	assert.Empty(t, in.ResourceConfig.InstanceType)
	assert.Nil(t, in.ResourceConfig.InstanceCount)
	assert.Equal(t, 2, r.Instances)
	assert.EqualValues(t, 2, *in.ResourceConfig.InstancePreferences[1].InstanceCount)
	assert.Equal(t, 10*time.Minute, r.MaxRuntime)
	assert.EqualValues(t, 7200, *in.StoppingCondition.MaxPendingTimeInSeconds)
	require.Len(t, in.InputDataConfig, 3)
	assert.EqualValues(t, 3, *in.InputDataConfig[0].ShuffleConfig.Seed)
	assert.Equal(t, "s3://data/b2", *in.InputDataConfig[1].DataSource.S3DataSource.S3Uri)
	assert.Equal(t, map[string]string{"n": "10000000000000000000001", "s": "x", "o": `{"a":[1.50]}`}, in.HyperParameters)
	assert.Equal(t, map[string]string{"MODE": "quick"}, in.Environment)
	assert.Equal(t, "c", *in.DebugHookConfig.CollectionConfigurations[0].CollectionName)
	assert.True(t, *in.ProfilerConfig.DisableProfiler)
	assert.Equal(t, "s3://out/model", *in.OutputDataConfig.S3OutputPath)
	assert.Equal(t, "/opt/ml/cp", *in.CheckpointConfig.LocalPath)
	assert.Equal(t, []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}}, in.Tags)
	assert.Nil(t, in.SessionChainingConfig)
}

func TestVariablesWinOverTheSpec(t *testing.T) {
	t.Parallel()

	const spec = `
EnableManagedSpotTraining: true
ResourceConfig:
  InstanceGroups:
    - {InstanceGroupName: a, InstanceType: ml.g5.xlarge, InstanceCount: 2}
StoppingCondition: {MaxRuntimeInSeconds: 600, MaxWaitTimeInSeconds: 1200}
CheckpointConfig: {S3Uri: "s3://x-1/y", LocalPath: /opt/ml/cp}
`
	r, err := withSpec(t, spec, vars{
		"SAGEMAKER_INSTANCE_TYPE": "ml.m5.large", "SAGEMAKER_INSTANCE_COUNT": "3",
		"SAGEMAKER_MAX_RUNTIME": "900", "SAGEMAKER_CHECKPOINTS": "mine",
	}, nil)
	require.NoError(t, err)
	assert.Empty(t, r.Create.ResourceConfig.InstanceGroups)
	assert.EqualValues(t, 3, *r.Create.ResourceConfig.InstanceCount)
	assert.Equal(t, 15*time.Minute, r.MaxRuntime)
	assert.Equal(t, 20*time.Minute, r.MaxWait)
	assert.Equal(t, "/opt/ml/cp", *r.Create.CheckpointConfig.LocalPath)
	assert.Contains(t, *r.Create.CheckpointConfig.S3Uri, "/7/protected/mine")
}

func TestSpecRefused(t *testing.T) {
	t.Parallel()

	tests := map[string]struct {
		spec   string
		change func(*settings.Settings)
		code   int
		text   string
	}{
		"unknown field":      {"ResourceConfig: {InstanceTyp: hush}", nil, failure.CodeInvalid, "unknown field ResourceConfig.InstanceTyp: did you mean InstanceType?"},
		"case of a field":    {"roleArn: hush", nil, failure.CodeInvalid, "unknown field roleArn: did you mean RoleArn?"},
		"SDK's own field":    {"ResultMetadata: {}", nil, failure.CodeInvalid, "unknown field ResultMetadata"},
		"no field name":      {`{"hush hush": 1}`, nil, failure.CodeInvalid, "a field whose name is none of AWS's"},
		"number for string":  {"RoleArn: 12", nil, failure.CodeInvalid, "RoleArn must be a string"},
		"string for number":  {`ResourceConfig: {InstanceCount: "hush"}`, nil, failure.CodeInvalid, "ResourceConfig.InstanceCount must be a whole number"},
		"fraction":           {`{"ResourceConfig": {"InstanceCount": 1.5}}`, nil, failure.CodeInvalid, "must be a whole number"},
		"too large":          {`{"ResourceConfig": {"InstanceCount": 5000000000}}`, nil, failure.CodeInvalid, "must be a whole number"},
		"string for bool":    {`EnableManagedSpotTraining: "yes"`, nil, failure.CodeInvalid, "must be true or false"},
		"mapping for list":   {"Tags: {a: b}", nil, failure.CodeInvalid, "Tags must be a list"},
		"list for mapping":   {"ResourceConfig: [1]", nil, failure.CodeInvalid, "ResourceConfig must be a mapping"},
		"environment number": {"Environment: {A: 1}", nil, failure.CodeInvalid, "the values of Environment must be strings"},
		"enum":               {"OutputDataConfig: {CompressionType: hush}", nil, failure.CodeInvalid, "OutputDataConfig.CompressionType has a value that AWS does not know: allowed is GZIP, NONE"},
		"not a mapping":      {"hush", nil, failure.CodeInvalid, "not a mapping"},
		"broken":             {"a: [hush", nil, failure.CodeInvalid, "neither JSON nor YAML: line 1: did not find expected ',' or ']'"},
		"colon":              {"a: hush: hush", nil, failure.CodeInvalid, "mapping values are not allowed in this context"},
		"tab":                {"a:\n\t- hush", nil, failure.CodeInvalid, "line 2: found character that cannot start any token"},
		"alias":              {"a: *hush", nil, failure.CodeInvalid, "an alias has no anchor"},
		"anchor in itself":   {"a: &hush [*hush]", nil, failure.CodeInvalid, "it cannot be parsed"},
		"key of no text":     {"{hush: 1}: hush", nil, failure.CodeInvalid, "it cannot be parsed"},
		"broken JSON":        {`{"RoleArn": "hush",, }`, nil, failure.CodeInvalid, "neither JSON nor YAML"},
		"twice":              {"RoleArn: hush\nRoleArn: hush", nil, failure.CodeInvalid, "neither JSON nor YAML: line 2: a key stands there for the second time"},
		"two documents":      {"Environment: {}\n---\nEnvironment: {}", nil, failure.CodeInvalid, "more than one document"},
		"empty":              {"# nothing", nil, failure.CodeInvalid, "is empty"},
		"aliases that grow":  {"a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]", nil, failure.CodeInvalid, "SAGEMAKER_SPEC"},

		"job name":        {"TrainingJobName: hush", all, failure.CodeInvalid, "sets TrainingJobName: leave it out"},
		"entrypoint":      {"AlgorithmSpecification: {ContainerEntrypoint: [hush]}", all, failure.CodeInvalid, "SAGEMAKER_ENTRYPOINT"},
		"arguments":       {"AlgorithmSpecification: {ContainerArguments: [hush]}", all, failure.CodeInvalid, "ContainerArguments"},
		"algorithm":       {"AlgorithmSpecification: {AlgorithmName: hush}", all, failure.CodeInvalid, "AlgorithmName"},
		"agent's channel": {"InputDataConfig: [{ChannelName: sagemaker-executor, DataSource: {S3DataSource: {S3DataType: S3Prefix, S3Uri: \"s3://data/a\"}}}]", all, failure.CodeInvalid, "belongs to the executor"},
		"our tags":        {"Tags: [{Key: 'GitLab:project-id', Value: hush}]", all, failure.CodeInvalid, "gitlab:"},

		"field not listed":     {"ExperimentConfig: {ExperimentName: hush}", nil, failure.CodePolicy, "sets ExperimentConfig.ExperimentName, which the policy does not list (policy.spec_fields"},
		"tags not listed":      {"Tags: [{Key: a, Value: hush}]", nil, failure.CodePolicy, "sets Tags.Key"},
		"session tags":         {"SessionChainingConfig: {EnableSessionTagChaining: true}", nil, failure.CodePolicy, "SessionChainingConfig"},
		"key not listed":       {"OutputDataConfig: {KmsKeyId: hush}", nil, failure.CodePolicy, "OutputDataConfig.KmsKeyId"},
		"network isolation":    {"EnableNetworkIsolation: true", all, failure.CodeInvalid, "network isolation"},
		"role":                 {"RoleArn: arn:aws:iam::123456789012:role/hush", nil, failure.CodePolicy, "RoleArn in the file-type variable SAGEMAKER_SPEC is not allowed: allowed is " + role},
		"type":                 {"ResourceConfig: {InstanceType: ml.hush}", func(s *settings.Settings) { s.Policy.InstanceTypes = []string{"ml.m5.*"} }, failure.CodePolicy, "policy.instance_types"},
		"type in a group":      {"ResourceConfig: {InstanceGroups: [{InstanceGroupName: a, InstanceType: ml.p5.48xlarge, InstanceCount: 1}]}", func(s *settings.Settings) { s.Policy.InstanceTypes = []string{"ml.m5.*"} }, failure.CodePolicy, "ResourceConfig.InstanceGroups.InstanceType in"},
		"type of a preference": {"ResourceConfig: {InstancePreferences: [{InstanceType: ml.p5.48xlarge, InstanceCount: 1}]}", func(s *settings.Settings) { s.Policy.InstanceTypes = []string{"ml.m5.*"} }, failure.CodePolicy, "ResourceConfig.InstancePreferences.InstanceType in"},
		"type of a rule":       {"DebugRuleConfigurations: [{RuleConfigurationName: a, RuleEvaluatorImage: i, InstanceType: ml.p5.48xlarge}]", func(s *settings.Settings) { all(s); s.Policy.InstanceTypes = []string{"ml.m5.*"} }, failure.CodePolicy, "DebugRuleConfigurations.InstanceType"},
		"image of a rule":      {"DebugRuleConfigurations: [{RuleConfigurationName: a, RuleEvaluatorImage: hush}]", func(s *settings.Settings) { all(s); s.Policy.Images = []string{"1*"} }, failure.CodePolicy, "policy.images"},
		"required field":       {"CheckpointConfig: {LocalPath: hush}", nil, failure.CodeInvalid, "lacks CheckpointConfig.S3Uri, which AWS requires"},
		"required in a list":   {"InputDataConfig: [{ChannelName: hush}]", nil, failure.CodeInvalid, "lacks InputDataConfig[0].DataSource"},
		"negative count":       {"ResourceConfig: {InstanceCount: -1}", nil, failure.CodeInvalid, "is too small: allowed is 1 to 4"},
		"negative in a group":  {"ResourceConfig: {InstanceGroups: [{InstanceGroupName: a, InstanceType: ml.m5.large, InstanceCount: -3}, {InstanceGroupName: b, InstanceType: ml.m5.large, InstanceCount: 7}]}", nil, failure.CodeInvalid, "is too small"},
		"counts that overflow": {"ResourceConfig: {InstanceGroups: [{InstanceGroupName: a, InstanceType: ml.m5.large, InstanceCount: 2147483647}, {InstanceGroupName: b, InstanceType: ml.m5.large, InstanceCount: 2147483647}]}", nil, failure.CodePolicy, "policy.max_instance_count"},
		"no runtime":           {"StoppingCondition: {MaxRuntimeInSeconds: 0}", nil, failure.CodeInvalid, "is too small"},
		"counts differ":        {"ResourceConfig: {InstancePreferences: [{InstanceType: ml.m5.large, InstanceCount: 1}, {InstanceType: ml.m5.large, InstanceCount: 2}]}", nil, failure.CodeInvalid, "different values of InstanceCount"},
		"counts of groups":     {"ResourceConfig: {InstanceGroups: [{InstanceGroupName: a, InstanceType: ml.m5.large, InstanceCount: 3}, {InstanceGroupName: b, InstanceType: ml.m5.large, InstanceCount: 3}]}", nil, failure.CodePolicy, "policy.max_instance_count"},
		"runtime":              {"StoppingCondition: {MaxRuntimeInSeconds: 1000000}", nil, failure.CodePolicy, "policy.max_runtime"},
		"spot":                 {"EnableManagedSpotTraining: true", func(s *settings.Settings) { s.Policy.Spot = false }, failure.CodePolicy, "policy.spot"},
		"bucket of one letter": {`InputDataConfig: [{ChannelName: a, DataSource: {S3DataSource: {S3DataType: S3Prefix, S3Uri: "s3://h/m"}}}]`, nil, failure.CodePolicy, "a URI that begins with s3://BUCKET/"},
		"security group":       {"VpcConfig: {Subnets: [subnet-1], SecurityGroupIds: [sg-hush]}", func(s *settings.Settings) { s.Network.Subnets = []string{"subnet-1"} }, failure.CodePolicy, "VpcConfig.SecurityGroupIds in the file-type variable SAGEMAKER_SPEC is not allowed, and the policy allows none (policy.security_groups, the default, not set in settings.toml): leave it out"},
		"subnet":               {"VpcConfig: {Subnets: [subnet-hush], SecurityGroupIds: [sg-hush]}", nil, failure.CodePolicy, "policy.s"},
		"remote debug":         {"RemoteDebugConfig: {EnableRemoteDebug: true}", all, failure.CodePolicy, "policy.remote_debug"},
		"output":               {`OutputDataConfig: {S3OutputPath: "s3://hush/x"}`, nil, failure.CodePolicy, "policy.s3_outputs"},
		"output by https":      {`OutputDataConfig: {S3OutputPath: "https://out/x"}`, all, failure.CodePolicy, "s3://BUCKET"},
		"checkpoints":          {`CheckpointConfig: {S3Uri: "s3://hush/x"}`, nil, failure.CodePolicy, "CheckpointConfig.S3Uri"},
		"others' checkpoints":  {`CheckpointConfig: {S3Uri: "s3://team/ci/checkpoints/a/8/open/x"}`, func(s *settings.Settings) { s.Policy.S3Outputs = []string{"s3://*"} }, failure.CodePolicy, "policy.s3_outputs"},
		"exchange as output":   {`OutputDataConfig: {S3OutputPath: "s3://team/ci/jobs"}`, func(s *settings.Settings) { s.Policy.S3Outputs = []string{"s3://team/ci/*"} }, failure.CodePolicy, "the exchange of jobs"},
		"agent as output":      {`CheckpointConfig: {S3Uri: "s3://team/ci/bin/x"}`, func(s *settings.Settings) { s.Policy.S3Outputs = []string{"s3://team/ci/*"} }, failure.CodePolicy, "the exchange of jobs"},
		"debug output":         {`DebugHookConfig: {S3OutputPath: "s3://hush/x"}`, all, failure.CodePolicy, "DebugHookConfig.S3OutputPath"},
		"manifest":             {`InputDataConfig: [{ChannelName: a, DataSource: {S3DataSource: {S3DataType: ManifestFile, S3Uri: "s3://data/m"}}}]`, nil, failure.CodePolicy, "policy.manifests"},
		"input":                {`InputDataConfig: [{ChannelName: a, DataSource: {S3DataSource: {S3DataType: S3Prefix, S3Uri: "s3://hush/m"}}}]`, func(s *settings.Settings) { s.Policy.S3Inputs = []string{"s3://data/*"} }, failure.CodePolicy, "policy.s3_inputs"},
		"one name twice":       {`InputDataConfig: [{ChannelName: a}, {ChannelName: a}]`, nil, failure.CodeInvalid, "two input channels"},
		"environment, AWS":     {"Environment: {AWS_ENDPOINT_URL: hush}", nil, failure.CodePolicy, "AWS_"},
		"environment":          {"Environment: {LD_PRELOAD: hush}", func(s *settings.Settings) { s.Policy.Environment = []string{"APP_*"} }, failure.CodePolicy, "policy.environment"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := withSpec(t, tt.spec, nil, tt.change)
			build, ok := failure.AsBuild(err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, tt.code, build.Code, err.Error())
			assert.Contains(t, err.Error(), tt.text)
			assert.NotContains(t, err.Error(), "hush", "content of the file")
		})
	}
}

func TestSpecMayWhatThePolicyLists(t *testing.T) {
	t.Parallel()

	tests := map[string]struct {
		spec   string
		change func(*settings.Settings)
	}{
		"own checkpoints":  {"", nil},
		"remote debug":     {"RemoteDebugConfig: {EnableRemoteDebug: true}", func(s *settings.Settings) { s.Policy.RemoteDebug = true }},
		"remote debug off": {"RemoteDebugConfig: {EnableRemoteDebug: false}", nil},
		"a role per project": {"RoleArn: arn:aws:iam::123456789012:role/p7-protected", func(s *settings.Settings) {
			s.Policy.Roles = []string{"arn:aws:iam::*:role/p{project_id}-{protection}"}
		}},
		"the VPC": {"VpcConfig: {Subnets: [subnet-1], SecurityGroupIds: [sg-1]}", func(s *settings.Settings) {
			s.Network.Subnets, s.Network.SecurityGroups = []string{"subnet-1"}, []string{"sg-1"}
		}},
		"our prefix by name": {`InputDataConfig: [{ChannelName: a, DataSource: {S3DataSource: {S3DataType: S3Prefix, S3Uri: "s3://team/ci/models/a/8/open/"}}}]`, func(s *settings.Settings) { s.Policy.S3Inputs = []string{"s3://team/ci/models/*"} }},
		"a manifest":         {`InputDataConfig: [{ChannelName: a, DataSource: {S3DataSource: {S3DataType: ManifestFile, S3Uri: "s3://data/m"}}}]`, func(s *settings.Settings) { s.Policy.Manifests = true }},
		"isolation off":      {"EnableNetworkIsolation: false", nil},
		"tab-indented JSON":  {"{\n\t\"Environment\": {\n\t\t\"A\": \"b\"}}", nil},
	}
	for name, tt := range tests {
		if tt.spec == "" {
			own := newJob(t, nil)
			tt.spec = `CheckpointConfig: {S3Uri: "s3://team/ci/checkpoints/` + own.Instance + `/7/protected/x"}`
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := withSpec(t, tt.spec, nil, tt.change)
			assert.NoError(t, err)
		})
	}
}

func TestSpecFileIsARegularFileOfTheProject(t *testing.T) {
	t.Parallel()

	outside := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(outside, []byte("hush"), 0o600))
	tests := map[string]struct {
		make func(t *testing.T, path string)
		text string
	}{
		"missing":         {func(*testing.T, string) {}, "there is no such file"},
		"directory":       {func(t *testing.T, p string) { require.NoError(t, os.Mkdir(p, 0o755)) }, "not a regular file"},
		"pipe":            {func(t *testing.T, p string) { require.NoError(t, syscall.Mkfifo(p, 0o644)) }, "not a regular file"},
		"absolute link":   {func(t *testing.T, p string) { require.NoError(t, os.Symlink(outside, p)) }, "cannot be opened inside the repository"},
		"device":          {func(t *testing.T, p string) { require.NoError(t, os.Symlink("/dev/zero", p)) }, "cannot be opened inside the repository"},
		"link out":        {func(t *testing.T, p string) { require.NoError(t, os.Symlink("../secret", p)) }, "cannot be opened inside the repository"},
		"too large":       {func(t *testing.T, p string) { require.NoError(t, os.WriteFile(p, make([]byte, 1<<20+1), 0o644)) }, "larger than 1 MiB"},
		"content is kept": {func(t *testing.T, p string) { require.NoError(t, os.WriteFile(p, []byte("hush"), 0o644)) }, "the spec spec.yml is not a mapping"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			tt.make(t, filepath.Join(dir, "spec.yml"))
			root, err := os.OpenRoot(dir)
			require.NoError(t, err)
			defer root.Close()
			r, err := request.Resolve(newJob(t, vars{"SAGEMAKER_SPEC": "spec.yml"}), newSettings(), time.Hour)
			require.NoError(t, err)
			_, err = r.WithSpec(root, time.Hour)
			build, ok := failure.AsBuild(err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, failure.CodeInvalid, build.Code)
			assert.Contains(t, err.Error(), tt.text)
			assert.NotContains(t, err.Error(), "hush")
		})
	}
}

// What only the spec can say is not missed before the spec is there.
func TestARoleInTheSpecIsEnough(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "spec.yml"), []byte("RoleArn: "+role), 0o600))
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = root.Close() })
	s := newSettings()
	s.RoleARN, s.Policy.Roles = "", []string{role}

	r, err := request.Resolve(newJob(t, vars{"SAGEMAKER_SPEC": "spec.yml", "SAGEMAKER_MAX_WAIT": "10m"}), s, time.Hour)
	require.NoError(t, err)
	_, err = r.WithSpec(root, time.Hour)
	assert.ErrorContains(t, err, "SAGEMAKER_MAX_WAIT is set without spot")

	r, err = request.Resolve(newJob(t, vars{"SAGEMAKER_SPEC": "spec.yml"}), s, time.Hour)
	require.NoError(t, err)
	r, err = r.WithSpec(root, time.Hour)
	require.NoError(t, err)
	assert.Equal(t, role, *r.Create.RoleArn)

	_, err = request.Resolve(newJob(t, nil), s, time.Hour)
	assert.ErrorContains(t, err, "set the variable SAGEMAKER_ROLE_ARN to a role that the policy allows ("+role)
	_, ok := failure.AsBuild(err)
	assert.True(t, ok, "the user can name one")
	s.Policy.Roles = nil
	_, err = request.Resolve(newJob(t, nil), s, time.Hour)
	assert.ErrorContains(t, err, "there is no execution role: set role_arn in settings.toml")
	_, ok = failure.AsBuild(err)
	assert.False(t, ok, "only the administrator can")
}
