package e2e_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

func TestJobTimeout(t *testing.T) {
	t.Parallel()
	p := shared.bothUnlike(t, job{
		script:  lines(started, "sleep 300"),
		after:   lines(`printf 'af%s\n' ter`),
		timeout: 12 * time.Second,
	})
	same(t, p)
	assert.Equal(t, "job_execution_timeout", p.ours.FailureReason)
	assert.Contains(t, output(p.ours.log, "step_script"), "started\n")
	assert.NotContains(t, string(p.ours.log), "after\n")
}

func TestScriptTimeout(t *testing.T) {
	t.Parallel()
	p := shared.bothUnlike(t, job{
		script:    lines(started, "echo made > made.txt", "sleep 300"),
		after:     lines(`echo "status $CI_JOB_STATUS"`, "cat made.txt"),
		variables: []gitlab.Variable{variable("RUNNER_SCRIPT_TIMEOUT", "8s")},
		artifacts: []gitlab.Artifact{{Paths: []string{"made.txt"}, When: "always", Type: "archive", Format: "zip"}},
	})
	same(t, p)
	assert.Contains(t, output(p.ours.log, "after_script"), "made\n")
}

// MAX_RUNTIME is the platform's own time-out: it names itself.
func TestMaxRuntime(t *testing.T) {
	t.Parallel()
	got := shared.run(t, job{
		script:    lines(started, "sleep 300"),
		variables: []gitlab.Variable{variable("SAGEMAKER_MAX_RUNTIME", "5")},
	})
	assert.Equal(t, gitlab.StateFailed, got.State)
	assert.Equal(t, "script_failure", got.FailureReason, "a build failure: a retry would end as this one did")
	assert.Equal(t, 124, got.ExitCode)
	assert.Contains(t, string(got.log), "SAGEMAKER_MAX_RUNTIME")
}
