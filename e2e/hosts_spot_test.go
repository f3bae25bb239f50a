package e2e_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

func TestTwoHosts(t *testing.T) {
	t.Parallel()
	got := shared.run(t, job{
		script: lines(
			`echo "$SM_HOSTS $SM_CURRENT_HOST"`,
			`getent hosts algo-2 | awk '{print $2}'`,
			`echo one > out`,
		),
		after:     lines("cat out"),
		variables: []gitlab.Variable{variable("SAGEMAKER_INSTANCE_COUNT", "2")},
		artifacts: []gitlab.Artifact{gitlab.Archive("out")},
	})
	assert.Equal(t, gitlab.StateSuccess, got.State)
	assert.Contains(t, output(got.log, "step_script"), `["algo-1","algo-2"] algo-1`+"\n")
	assert.Contains(t, output(got.log, "step_script"), "\nalgo-2\n")
	assert.Equal(t, []string{"out"}, names(got.archive(t)))
	jobs := shared.trainingJobs(t.Context(), t, got.job)
	require.Len(t, jobs, 1)
	d, err := shared.sagemaker.DescribeTrainingJob(t.Context(), &sagemaker.DescribeTrainingJobInput{TrainingJobName: jobs[0].TrainingJobName})
	require.NoError(t, err)
	assert.Equal(t, "Completed", string(d.TrainingJobStatus), "both hosts ended well")
}

func TestTwoHostsFail(t *testing.T) {
	t.Parallel()
	got := shared.run(t, job{script: lines("exit 9"), variables: []gitlab.Variable{variable("SAGEMAKER_INSTANCE_COUNT", "2")}})
	assert.Equal(t, gitlab.StateFailed, got.State)
	assert.Equal(t, 9, got.ExitCode)
}

// learns counts to five, and goes on from its checkpoint. Its first life stops
// at two, when the checkpoint is written, and waits for the interruption.
var learns = lines(
	`n=$(cat /opt/ml/checkpoints/n 2>/dev/null || echo 0); from=$n`,
	`echo "from $n"`,
	`while [ "$n" -lt 5 ]; do n=$((n+1)); echo "$n" > /opt/ml/checkpoints/n; echo "step $n"; if [ "$from$n" = 02 ]; then sleep 600; fi; done`,
	`echo "$n" > out; echo "$n" > "$SM_MODEL_DIR/model"`,
)

func TestSpotInterruption(t *testing.T) {
	t.Parallel()
	s := startStack(t, stackOptions{})
	s.fault(t, `{"job": {"spot_interruption": {"log_contains": "step 2", "wait": "1s"}}}`)
	got := s.run(t, job{
		script:    learns,
		after:     lines("cat out"),
		variables: []gitlab.Variable{variable("SAGEMAKER_SPOT", "true"), variable("SAGEMAKER_CHECKPOINTS", "true")},
		artifacts: []gitlab.Artifact{gitlab.Archive("out")},
	})
	assert.Equal(t, gitlab.StateSuccess, got.State)
	text := commandless(output(got.log, "step_script"))
	assert.True(t, strings.HasPrefix(text, "from 0\nstep 1\nstep 2\n"), text)
	assert.True(t, strings.HasSuffix(text, "from 2\nstep 3\nstep 4\nstep 5\n"), "resumed from the checkpoint: %s", text)
	assert.Equal(t, "5\n", got.archive(t)["out"].Content)
}

func TestSpotThatNeverComesBack(t *testing.T) {
	t.Parallel()
	s := startStack(t, stackOptions{})
	s.fault(t, `{"job": {"spot_interruption": {"after": "1s", "wait": "-1s"}}}`)
	got := s.run(t, job{
		script: lines("sleep 600"),
		variables: []gitlab.Variable{
			variable("SAGEMAKER_SPOT", "true"), variable("SAGEMAKER_CHECKPOINTS", "true"),
			variable("SAGEMAKER_MAX_RUNTIME", "10"), variable("SAGEMAKER_MAX_WAIT", "12"),
		},
	})
	assert.Equal(t, gitlab.StateFailed, got.State)
	assert.Equal(t, 124, got.ExitCode)
	assert.Contains(t, string(got.log), "SAGEMAKER_MAX_WAIT")
}

// GitLab's Retry of a failed job goes on where the first try stopped.
func TestCheckpointsOutliveAJob(t *testing.T) {
	t.Parallel()
	j := job{variables: []gitlab.Variable{variable("SAGEMAKER_CHECKPOINTS", "e2e-retry")}}
	j.script = lines(`echo "found $(cat /opt/ml/checkpoints/n 2>/dev/null)"`, `echo 3 > /opt/ml/checkpoints/n`, "exit 4")
	got := shared.run(t, j)
	assert.Equal(t, 4, got.ExitCode)
	assert.Contains(t, output(got.log, "step_script"), "found \n")
	j.script = lines(`echo "found $(cat /opt/ml/checkpoints/n 2>/dev/null)"`)
	got = shared.run(t, j)
	assert.Contains(t, output(got.log, "step_script"), "found 3\n")
}

func TestWarmPool(t *testing.T) {
	t.Parallel()
	s := startStack(t, stackOptions{aws: []string{"--start-delay", "2s"}})
	j := job{script: lines("echo fine"), variables: []gitlab.Variable{variable("SAGEMAKER_KEEP_ALIVE", "10m")}}
	assert.Equal(t, gitlab.StateSuccess, s.run(t, j).State)
	second := s.run(t, j)
	assert.Equal(t, gitlab.StateSuccess, second.State)
	jobs := s.trainingJobs(t.Context(), t, second.job)
	require.Len(t, jobs, 1)
	list, err := s.sagemaker.ListTrainingJobs(t.Context(), &sagemaker.ListTrainingJobsInput{})
	require.NoError(t, err)
	var reused int
	for _, one := range list.TrainingJobSummaries {
		if one.WarmPoolStatus != nil && one.WarmPoolStatus.Status == "Reused" {
			reused++
		}
	}
	assert.Equal(t, 1, reused, "the second job ran on the first one's instance")
}
