package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// What a script shows until its time-out strikes, which may be any time: before
// the script has begun, and, on this side, before there is a container.
func until(t *testing.T, p pair, section string, whole ...string) {
	t.Helper()
	for name, o := range map[string]outcome{"executor": p.ours, "shell executor": p.oracle} {
		assert.Truef(t, strings.HasPrefix(strings.Join(whole, ""), output(o.log, section)), "%s: %s", name, output(o.log, section))
	}
}

func TestJobTimeout(t *testing.T) {
	t.Parallel()
	p := shared.bothUnlike(t, job{
		script:  lines(started, "sleep 300"),
		after:   lines(`printf 'af%s\n' ter`),
		timeout: 12 * time.Second,
	})
	for name, o := range map[string]outcome{"executor": p.ours, "shell executor": p.oracle} {
		assert.Equal(t, gitlab.StateFailed, o.State, name)
		assert.Equal(t, "job_execution_timeout", o.FailureReason, name)
		assert.NotContains(t, string(o.log), "after\n", name)
	}
	assert.Equal(t, p.oracle.ExitCode, p.ours.ExitCode)
	until(t, p, "step_script", echoed(started), "started\n", echoed("sleep 300"), "Terminated\n")
	assert.NotContains(t, string(p.ours.log), "sagemaker-executor:", "a time-out is no error of ours")
}

func TestScriptTimeout(t *testing.T) {
	t.Parallel()
	p := shared.bothUnlike(t, job{
		script:    lines(started, "sleep 300"),
		after:     lines(`echo "status $CI_JOB_STATUS"`),
		variables: []gitlab.Variable{variable("RUNNER_SCRIPT_TIMEOUT", "8s")},
	})
	for name, o := range map[string]outcome{"executor": p.ours, "shell executor": p.oracle} {
		assert.Equal(t, gitlab.StateFailed, o.State, name)
		assert.Contains(t, string(o.log), "script timeout", name)
	}
	assert.Equal(t, p.oracle.FailureReason, p.ours.FailureReason)
	assert.Equal(t, p.oracle.ExitCode, p.ours.ExitCode)
	until(t, p, "step_script", echoed(started), "started\n", echoed("sleep 300"), "Terminated\n")
	if strings.Contains(output(p.ours.log, "step_script"), "started\n") { // there is a container
		assert.Contains(t, output(p.ours.log, "after_script"), "status timedout\n")
	} else {
		assert.Contains(t, string(p.ours.log), "after_script is skipped")
	}
	assert.NotContains(t, string(p.ours.log), "sagemaker-executor:", "a time-out is no error of ours")
}

// The same with so much time that the scripts have begun on any machine.
func TestLongTimeouts(t *testing.T) {
	t.Parallel()
	needLong(t)
	t.Run("of the job", func(t *testing.T) {
		t.Parallel()
		p := both(t, job{script: lines(started, "sleep 600"), after: lines(`printf 'af%s\n' ter`), timeout: 90 * time.Second})
		assert.Equal(t, "job_execution_timeout", p.ours.FailureReason)
		assert.Contains(t, output(p.ours.log, "step_script"), "started\n")
	})
	t.Run("of the script", func(t *testing.T) {
		t.Parallel()
		p := both(t, job{
			script:    lines(started, "echo made > made.txt", "sleep 600"),
			after:     lines(`echo "status $CI_JOB_STATUS"`, "cat made.txt"),
			variables: []gitlab.Variable{variable("RUNNER_SCRIPT_TIMEOUT", "90s")},
			artifacts: []gitlab.Artifact{{Paths: []string{"made.txt"}, When: "always", Type: "archive", Format: "zip"}},
		})
		assert.Contains(t, output(p.ours.log, "after_script"), "made\n")
	})
	t.Run("of after_script", func(t *testing.T) {
		t.Parallel()
		both(t, job{
			script:    lines("echo fine", "echo out > out"),
			after:     lines("echo before", "sleep 600", "echo never"),
			variables: []gitlab.Variable{variable("RUNNER_AFTER_SCRIPT_TIMEOUT", "60s")},
			artifacts: []gitlab.Artifact{gitlab.Archive("out")},
		})
	})
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
