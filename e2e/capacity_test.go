package e2e_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// preference is a job that would rather have the first type.
var preference = job{
	script:    lines(`printf 'ra%s\n' n`),
	variables: []gitlab.Variable{variable("SAGEMAKER_INSTANCE_TYPE", "ml.p5.48xlarge,ml.m5.large")},
}

// types are the instance types of the GitLab job's SageMaker jobs, newest first.
func (s *stack) types(t *testing.T, j *gitlab.Job) []string {
	t.Helper()
	var types []string
	for _, job := range s.trainingJobs(t.Context(), t, j) {
		d, err := s.sagemaker.DescribeTrainingJob(t.Context(), &sagemaker.DescribeTrainingJobInput{TrainingJobName: job.TrainingJobName})
		require.NoError(t, err)
		types = append(types, string(d.ResourceConfig.InstanceType))
	}
	return types
}

func TestCapacityPreferences(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault string
		types []string // asked for, newest first; what was refused at once leaves no job
	}{
		"refused at once":   {`{"match": {"ResourceConfig.InstanceType": "ml.p5.48xlarge"}, "job": {"capacity": "refused"}}`, []string{"ml.m5.large"}},
		"failed":            {`{"match": {"ResourceConfig.InstanceType": "ml.p5.48xlarge"}, "job": {"capacity": "failed"}}`, []string{"ml.m5.large", "ml.p5.48xlarge"}},
		"pending for ever":  {`{"match": {"ResourceConfig.InstanceType": "ml.p5.48xlarge"}, "job": {"capacity": "pending"}}`, []string{"ml.m5.large", "ml.p5.48xlarge"}},
		"first one is free": {`{"match": {"ResourceConfig.InstanceType": "ml.m5.large"}, "job": {"capacity": "refused"}}`, []string{"ml.p5.48xlarge"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startStack(t, stackOptions{waits: `capacity_wait = "2s"`})
			s.fault(t, test.fault)
			got := s.run(t, preference)
			assert.Equal(t, gitlab.StateSuccess, got.State)
			assert.Contains(t, output(got.log, "step_script"), "ran\n")
			assert.Equal(t, test.types, s.types(t, got.job))
		})
	}
}

// quota is the account's limits, for the local AWS.
func quota(instance string, limit int) string {
	return fmt.Sprintf(`{"quotas": {%q: %d}}`, instance, limit)
}

func TestNoCapacityAnywhere(t *testing.T) {
	t.Parallel()
	s := startStack(t, stackOptions{waits: `capacity_wait = "1s"`})
	s.fault(t, `{"job": {"capacity": "failed"}}`)
	got := s.run(t, preference)
	assert.Equal(t, gitlab.StateFailed, got.State)
	assert.Equal(t, "runner_system_failure", got.FailureReason, "GitLab may retry it")
	for _, says := range []string{"ml.p5.48xlarge", "ml.m5.large", "CapacityError: Unable to provision requested ML compute capacity"} {
		assert.Contains(t, string(got.log), says)
	}
	assert.Len(t, s.types(t, got.job), 2)
}

func TestQuota(t *testing.T) {
	t.Parallel()
	t.Run("is below the demand", func(t *testing.T) {
		t.Parallel()
		s := startStack(t, stackOptions{limits: quota("ml.m5.large", 0)})
		got := s.run(t, job{script: lines("echo never")})
		assert.Equal(t, gitlab.StateFailed, got.State)
		assert.Equal(t, "script_failure", got.FailureReason, "it never clears by itself")
		assert.Equal(t, 69, got.ExitCode)
		assert.Contains(t, string(got.log), "servicequotas")
		assert.Contains(t, string(got.log), "ml.m5.large for training job usage")
	})
	t.Run("is below the demand, and there is another type", func(t *testing.T) {
		t.Parallel()
		s := startStack(t, stackOptions{limits: quota("ml.p5.48xlarge", 0)})
		got := s.run(t, preference)
		assert.Equal(t, gitlab.StateSuccess, got.State)
		assert.Equal(t, []string{"ml.m5.large"}, s.types(t, got.job))
	})
	for name, test := range map[string]struct {
		wait   string
		sleep  string
		reason string
	}{
		"is used by another job, which ends":  {wait: "2m", sleep: "sleep 8"},
		"is used by another job, which stays": {wait: "4s", sleep: ticking, reason: "runner_system_failure"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startStack(t, stackOptions{limits: quota("ml.m5.large", 1), waits: fmt.Sprintf("quota_wait = %q", test.wait)})
			other := s.start(t, job{script: lines(started, test.sleep)})
			waitOutput(t, other, "started\n")
			got := s.run(t, job{script: lines("echo fine")})
			assert.Equal(t, test.reason, got.FailureReason)
			assert.Contains(t, string(got.log), "quota")
			want := gitlab.StateSuccess
			if test.reason != "" { // it has stayed long enough
				other.Cancel(true)
				want = gitlab.StateCanceled
			}
			assert.Equal(t, want, end(t, other).State)
		})
	}
}

// An answer that was lost: the job was made, so asking again finds it.
func TestCreateThatTimesOutButSucceeded(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]string{
		"error instead of the answer": `{"service": "sagemaker", "operation": "CreateTrainingJob", "error": "InternalFailure", "status": 500, "after": true, "count": 1}`,
		"gateway":                     `{"service": "sagemaker", "operation": "CreateTrainingJob", "error": "ServiceUnavailable", "status": 503, "after": true, "count": 1}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startStack(t, stackOptions{})
			s.fault(t, fault)
			got := s.run(t, job{script: lines(`printf 'ra%s\n' n`)})
			assert.Equal(t, gitlab.StateSuccess, got.State)
			assert.Len(t, s.trainingJobs(t.Context(), t, got.job), 1)
		})
	}
}

func TestThrottling(t *testing.T) {
	t.Parallel()
	s := startStack(t, stackOptions{})
	for _, operation := range []string{"CreateTrainingJob", "DescribeTrainingJob"} {
		s.fault(t, `{"service": "sagemaker", "operation": "`+operation+`", "error": "ThrottlingException", "message": "Rate exceeded", "status": 400, "count": 3}`)
	}
	got := s.run(t, job{script: lines("echo fine")})
	assert.Equal(t, gitlab.StateSuccess, got.State)
}

func TestInternalErrorOfThePlatform(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]string{
		"before the script": `{"job": {"internal": "start"}}`,
		"during the script": `{"job": {"internal": "training", "after": "3s"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startStack(t, stackOptions{})
			s.fault(t, fault)
			got := s.run(t, job{script: lines("sleep 600")})
			assert.Equal(t, gitlab.StateFailed, got.State)
			assert.Equal(t, "runner_system_failure", got.FailureReason)
			assert.Contains(t, string(got.log), "InternalServerError")
		})
	}
}

// What comes after the script is the platform's, and still the job's.
func TestModelUpload(t *testing.T) {
	t.Parallel()
	model := lines(`echo weights > "$SM_MODEL_DIR/model.bin"`, "echo out > out")
	archive := []gitlab.Artifact{gitlab.Archive("out")}
	for name, j := range map[string]job{
		"slow":                     {script: model, artifacts: archive},
		"slow, with after_script":  {script: model, artifacts: archive, after: lines("cat out")},
		"slow, nothing comes home": {script: model, after: lines("cat out")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startStack(t, stackOptions{aws: []string{"--upload-delay", "6s"}})
			got := s.run(t, j)
			assert.Equal(t, gitlab.StateSuccess, got.State)
			jobs := s.trainingJobs(context.Background(), t, got.job)
			require.Len(t, jobs, 1)
			d, err := s.sagemaker.DescribeTrainingJob(t.Context(), &sagemaker.DescribeTrainingJobInput{TrainingJobName: jobs[0].TrainingJobName})
			require.NoError(t, err)
			assert.Equal(t, "Completed", string(d.TrainingJobStatus))
			require.NotNil(t, d.ModelArtifacts)
			assert.Contains(t, aws.ToString(d.ModelArtifacts.S3ModelArtifacts), "model.tar.gz")
		})
	}
	t.Run("fails", func(t *testing.T) {
		t.Parallel()
		s := startStack(t, stackOptions{})
		s.fault(t, `{"job": {"upload_error": "Access Denied"}}`)
		j := job{script: model, artifacts: archive}
		j.artifacts[0].When = "always"
		got := s.run(t, j)
		assert.Equal(t, gitlab.StateFailed, got.State)
		assert.Equal(t, 70, got.ExitCode)
		assert.Contains(t, string(got.log), "Artifact upload failed")
	})
}
