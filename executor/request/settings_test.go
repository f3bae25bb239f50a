package request_test

import (
	"fmt"
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

func TestSettingsFillTheRequest(t *testing.T) {
	t.Parallel()

	s := newSettings()
	s.RoleARN = "arn:aws:iam::123456789012:role/{instance}-{project_id}-{protection}"
	s.Network = settings.Network{Subnets: []string{"subnet-1"}, SecurityGroups: []string{"sg-1"}, EncryptTraffic: true}
	s.KMS = settings.KMS{VolumeKey: "v", OutputKey: "o"}
	s.Tags = map[string]string{"b": "2", "a": "1"}
	s.Defaults.InstanceType = []string{"ml.c5.large", "ml.m5.large"}
	s.Defaults.Spot = true
	s.Defaults.MaxRuntime, s.Defaults.MaxWait = settings.Duration(10*time.Minute), settings.Duration(20*time.Minute)
	s.Policy.InstanceTypes, s.Policy.Spot = []string{"ml.g5.*"}, false // the defaults are not judged

	j := newJob(t, nil)
	r, err := request.Resolve(j, s, time.Hour)
	require.NoError(t, err)
	in := r.Create
	assert.Equal(t, "arn:aws:iam::123456789012:role/"+j.Instance+"-7-protected", *in.RoleArn)
	assert.Equal(t, []string{"subnet-1"}, in.VpcConfig.Subnets)
	assert.Equal(t, []string{"sg-1"}, in.VpcConfig.SecurityGroupIds)
	assert.True(t, *in.EnableInterContainerTrafficEncryption)
	assert.Equal(t, "v", *in.ResourceConfig.VolumeKmsKeyId)
	assert.Equal(t, "o", *in.OutputDataConfig.KmsKeyId)
	assert.Equal(t, []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}, {Key: aws.String("b"), Value: aws.String("2")}}, in.Tags)
	assert.Equal(t, []string{"ml.c5.large", "ml.m5.large"}, r.InstanceTypes)
	assert.True(t, r.Spot)
	assert.Equal(t, 10*time.Minute, r.MaxRuntime)
	assert.Equal(t, 20*time.Minute, r.MaxWait)

	// What the job wants outweighs a default that does not go with it.
	s.Policy.Spot = true
	r, err = request.Resolve(newJob(t, vars{"SAGEMAKER_KEEP_ALIVE": "5m"}), s, time.Hour)
	require.NoError(t, err)
	assert.False(t, r.Spot)
	s.Defaults.Spot, s.Defaults.KeepAlive = false, settings.Duration(time.Minute)
	r, err = request.Resolve(newJob(t, vars{"SAGEMAKER_SPOT": "true"}), s, time.Hour)
	require.NoError(t, err)
	assert.Zero(t, r.KeepAlive)
	r, err = request.Resolve(newJob(t, nil), s, time.Hour)
	require.NoError(t, err)
	assert.Equal(t, time.Minute, r.KeepAlive)
}

func TestImages(t *testing.T) {
	t.Parallel()

	const ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/"
	tests := map[string]struct {
		image string
		want  string
		note  bool
	}{
		"by name":             {"python:3.12", ecr + "py312", false},
		"by the longest glob": {"python:3.12-slim", ecr + "slim", false},
		"by a glob":           {"python:3.11", ecr + "py", false},
		"with slashes":        {"registry.example/a/b:1", ecr + "mirror", false},
		"in ECR already":      {ecr + "x@sha256:00", ecr + "x@sha256:00", false},
		"elsewhere":           {"ubuntu:24.04", "ubuntu:24.04", true},
		"the default":         {"", ecr + "default", false},
		"a reference":         {"python:$VERSION", ecr + "py312", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSettings()
			s.Defaults.Image = "123456789012.dkr.ecr.{region}.amazonaws.com/default"
			s.Images = map[string]string{"python:3.12": ecr + "py312", "python:*": ecr + "py", "python:*-slim": ecr + "slim", "registry.example/*": ecr + "mirror"}
			j := newJob(t, vars{"VERSION": "3.12"})
			j.Image.Name = tt.image
			r, err := request.Resolve(j, s, time.Hour)
			require.NoError(t, err)
			assert.Equal(t, tt.want, r.Image)
			assert.Equal(t, tt.want, *r.Create.AlgorithmSpecification.TrainingImage)
			assert.Equal(t, tt.note, len(r.Notes) > 0)
		})
	}

	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		s := newSettings()
		s.Policy.Images = []string{ecr + "*"}
		j := newJob(t, nil)
		j.Image.Name = "ubuntu:24.04"
		_, err := request.Resolve(j, s, time.Hour)
		assert.EqualError(t, err, `image: is "ubuntu:24.04": allowed is `+ecr+`* (policy.images, the default, not set in settings.toml)`)
		s.Defaults.Image, j.Image.Name = "", ""
		_, err = request.Resolve(j, s, time.Hour)
		assert.ErrorContains(t, err, "the job has no image")
		s.Defaults.Image, s.Region = "x.{region}", ""
		_, err = request.Resolve(j, s, time.Hour)
		assert.ErrorContains(t, err, "set region in settings.toml")
	})
}

func TestImageEntrypoint(t *testing.T) {
	t.Parallel()

	for name, tt := range map[string]struct {
		entrypoint []string
		variable   string
		want       request.Entrypoint
	}{
		"none":          {nil, "", request.Entrypoint{}},
		"emptied":       {[]string{""}, "", request.Entrypoint{}},
		"of the image:": {[]string{"/e", "$X"}, "", request.Entrypoint{Mode: request.EntrypointExplicit, Args: []string{"/e", "x"}}},
		"variable wins": {[]string{"/e"}, "image", request.Entrypoint{Mode: request.EntrypointImage}},
		"words":         {nil, "/e  -q", request.Entrypoint{Mode: request.EntrypointExplicit, Args: []string{"/e", "-q"}}},
	} {
		j := newJob(t, vars{"X": "x", "SAGEMAKER_ENTRYPOINT": tt.variable})
		j.Image.Entrypoint = tt.entrypoint
		r, err := request.Resolve(j, newSettings(), time.Hour)
		require.NoError(t, err, name)
		assert.Equal(t, tt.want, r.Entrypoint, name)
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()

	s := newSettings()
	s.Policy.Kinds = []string{"training", "host"}
	r, err := request.Resolve(newJob(t, vars{"SAGEMAKER_JOB": "host"}), s, time.Hour)
	require.NoError(t, err)
	assert.Equal(t, request.KindHost, r.Kind)
	assert.Nil(t, r.Create)

	s.Defaults.Kind = "host"
	r, err = request.Resolve(newJob(t, nil), s, time.Hour)
	require.NoError(t, err)
	assert.Equal(t, request.KindHost, r.Kind)
}

func TestTheRunnersBootVerificationNeedsNothing(t *testing.T) {
	t.Parallel()

	r, err := request.Resolve(&job.Job{Services: []job.Image{{Name: "x"}}}, &settings.Settings{}, 0)
	require.NoError(t, err)
	assert.Equal(t, request.KindHost, r.Kind)
}

func TestWhatAJobCannotHave(t *testing.T) {
	t.Parallel()

	tests := map[string]struct {
		change func(j *job.Job)
		left   time.Duration
		code   int
		text   string
	}{
		"services":        {func(j *job.Job) { j.Services = []job.Image{{Name: "postgres:16"}} }, time.Hour, failure.CodeInvalid, `services: ("postgres:16") cannot run`},
		"steps":           {func(j *job.Job) { j.Run = "[{}]" }, time.Hour, failure.CodeInvalid, "run: keyword"},
		"no time left":    {func(*job.Job) {}, time.Millisecond, failure.CodeTimeout, "nothing is left of the job's time-out of 1h"},
		"image in blanks": {func(j *job.Job) { j.Image.Name = "a b" }, time.Hour, failure.CodeInvalid, "no image reference"},
	}
	for name, tt := range tests {
		j := newJob(t, nil)
		tt.change(j)
		_, err := request.Resolve(j, newSettings(), tt.left)
		build, ok := failure.AsBuild(err)
		require.True(t, ok, name)
		assert.Equal(t, tt.code, build.Code, name)
		assert.Contains(t, err.Error(), tt.text, name)
	}
}

func TestListsEndAtAWSsLimits(t *testing.T) {
	t.Parallel()

	for family, limit := range map[string]int{"SAGEMAKER_INPUT_C%d": 19, "SAGEMAKER_HP_P%d": 100, "SAGEMAKER_METRIC_M%d": 40} {
		v := vars{}
		for i := range limit {
			v[fmt.Sprintf(family, i)] = "s3://data/(.)"
		}
		_, err := request.Resolve(newJob(t, v), newSettings(), time.Hour)
		require.NoError(t, err, family)
		v[fmt.Sprintf(family, limit)] = "s3://data/(.)"
		_, err = request.Resolve(newJob(t, v), newSettings(), time.Hour)
		assert.ErrorContains(t, err, fmt.Sprintf("the job has %d", limit+1), family)
	}
}

func TestPolicyErrorsNameFileAndLine(t *testing.T) {
	t.Parallel()

	s := newSettings()
	s.Sources = map[string]string{"policy.max_instance_count": "/etc/s.toml:12"}
	_, err := request.Resolve(newJob(t, vars{"SAGEMAKER_INSTANCE_COUNT": "5"}), s, time.Hour)
	assert.EqualError(t, err, "the variable SAGEMAKER_INSTANCE_COUNT is 5: allowed is 1 to 4 (policy.max_instance_count, /etc/s.toml:12)")
}

func TestUnknownVariablesOfOtherTools(t *testing.T) {
	t.Parallel()

	s := newSettings()
	_, err := request.Resolve(newJob(t, vars{"SAGEMAKER_STUDIO_X": "1"}), s, time.Hour)
	assert.ErrorContains(t, err, "unknown variable SAGEMAKER_STUDIO_X")
	s.Policy.IgnoredVariables = []string{"SAGEMAKER_STUDIO_*"}
	_, err = request.Resolve(newJob(t, vars{"SAGEMAKER_STUDIO_X": "1"}), s, time.Hour)
	assert.NoError(t, err)
}

func TestNewerInstanceTypesByName(t *testing.T) {
	t.Parallel()

	s := newSettings()
	_, err := request.Resolve(newJob(t, vars{"SAGEMAKER_INSTANCE_TYPE": "ml.z99.large"}), s, time.Hour)
	assert.ErrorContains(t, err, `"ml.z99.large" is none`)
	_, err = request.Resolve(newJob(t, vars{"SAGEMAKER_INSTANCE_TYPE": "t2.micro"}), s, time.Hour)
	build, ok := failure.AsBuild(err)
	require.True(t, ok)
	assert.Equal(t, failure.CodeInvalid, build.Code, "a type that does not exist, whatever the policy allows")
	s.Policy.InstanceTypes = append(s.Policy.InstanceTypes, "ml.z99.large")
	r, err := request.Resolve(newJob(t, vars{"SAGEMAKER_INSTANCE_TYPE": "ml.z99.large"}), s, time.Hour)
	require.NoError(t, err)
	assert.Equal(t, []string{"ml.z99.large"}, r.InstanceTypes)
}
