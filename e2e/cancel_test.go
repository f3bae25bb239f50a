package e2e_test

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// waitOutput waits until the job has printed the text. The commands that the
// runner echoes do not count: print it in pieces.
func waitOutput(t *testing.T, j *gitlab.Job, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), maxJob)
	defer cancel()
	require.NoError(t, j.WaitTrace(ctx, text))
}

// started prints "started" without its being in the echoed command.
const started = `printf 'star%s\n' ted`

// ticking goes on for minutes and says so every second: a runner asks whether its
// job is cancelled when it has something to say, or after half a minute.
const ticking = `for i in $(seq 300); do echo "tick $i"; sleep 1; done`

func TestCancelDuringScript(t *testing.T) {
	t.Parallel()
	j := job{
		script:    lines("echo made > made.txt", started, "sleep 300", "echo never"),
		after:     lines(`echo "status $CI_JOB_STATUS"`, "cat made.txt"),
		artifacts: []gitlab.Artifact{{Paths: []string{"made.txt"}, When: "always", Type: "archive", Format: "zip"}},
	}
	oracle, err := shared.oracleGitlab.Enqueue(j.payload(shared, mark(t), nil))
	require.NoError(t, err)
	ours := shared.start(t, j)
	for _, one := range []*gitlab.Job{oracle, ours} {
		waitOutput(t, one, "started\n")
		one.Cancel(false)
	}
	p := pair{ours: end(t, ours), oracle: end(t, oracle)}
	same(t, p)
	assert.Equal(t, gitlab.StateCanceled, p.ours.State)
	after, _ := strings.CutPrefix(output(p.ours.log, "after_script"), "\x1b[32;1mRunning after script...\x1b[0;m\n")
	assert.Equal(t, "status canceled\nmade\n", commandless(after), "after_script runs in the same container")
	assert.NotContains(t, string(p.ours.log), "sagemaker-executor:", "a cancel is no error of ours")
}

// A script may end in its own way: it gets SIGTERM, and stop_grace to go.
func TestCancelledScriptCanCleanUp(t *testing.T) {
	t.Parallel()
	j := shared.start(t, job{script: lines(
		`bash -c 'trap "echo bye; exit 0" TERM; printf "star%s\n" ted; while :; do echo tick; sleep 0.3; done'`,
	)})
	waitOutput(t, j, "started\n")
	j.Cancel(false)
	got := end(t, j)
	assert.Equal(t, gitlab.StateCanceled, got.State)
	assert.Contains(t, output(got.log, "step_script"), "bye\n", "what it prints then reaches the job log")
}

func TestCancelledScriptThatIgnoresSIGTERM(t *testing.T) {
	t.Parallel()
	j := shared.start(t, job{script: lines(`trap '' TERM`, started, `while :; do echo tick; sleep 0.3; done`)})
	waitOutput(t, j, "started\n")
	j.Cancel(false)
	assert.Equal(t, gitlab.StateCanceled, end(t, j).State)
}

func TestCancelDuringAfterScript(t *testing.T) {
	t.Parallel()
	j := shared.start(t, job{script: lines("echo fine"), after: lines(started, ticking, "echo never")})
	waitOutput(t, j, "started\n")
	j.Cancel(false)
	// The runner lets after_script go on when a job is cancelled during it.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := j.Wait(ctx); err != nil {
		j.Cancel(true)
	}
	got := end(t, j)
	assert.Equal(t, gitlab.StateCanceled, got.State)
	assert.NotContains(t, output(got.log, "after_script"), "never\n")
}

func TestForceCancel(t *testing.T) {
	t.Parallel()
	j := shared.start(t, job{script: lines(started, ticking), after: lines(`printf 'af%s\n' ter`)})
	waitOutput(t, j, "started\n")
	j.Cancel(true)
	got := end(t, j)
	assert.Equal(t, gitlab.StateCanceled, got.State)
	assert.NotContains(t, string(got.log), "after\n", "after_script does not run")
}

func TestCancelBeforeTheInstanceExists(t *testing.T) {
	t.Parallel()
	s := startStack(t, stackOptions{aws: []string{"--start-delay", "10m"}})
	j := s.start(t, job{script: lines(`printf 'ra%s\n' n`), after: lines(`printf 'af%s\n' ter`)})
	ctx, cancel := context.WithTimeout(t.Context(), maxJob)
	defer cancel()
	require.Eventually(t, func() bool { return len(s.trainingJobs(ctx, t, j)) == 1 }, time.Minute, 100*time.Millisecond)
	j.Cancel(false)
	got := end(t, j)
	assert.Equal(t, gitlab.StateCanceled, got.State)
	assert.NotContains(t, string(got.log), "ran\n")
	assert.Len(t, s.trainingJobs(ctx, t, j), 1, "no second instance was asked for")
}

// A runner that is told to go aborts its jobs and cleans up after them.
func TestRunnerShutdown(t *testing.T) {
	t.Parallel()
	s := startStack(t, stackOptions{})
	j := s.start(t, job{script: lines(started, ticking), after: lines(`printf 'af%s\n' ter`)})
	waitOutput(t, j, "started\n")
	require.NoError(t, s.runner.Signal(syscall.SIGTERM))
	got := end(t, j)
	assert.Equal(t, gitlab.StateFailed, got.State)
	assert.Contains(t, string(got.log), "aborted: terminated")
	select {
	case <-s.runner.Done():
	case <-time.After(time.Minute):
		t.Fatal("the runner has not ended a minute after SIGTERM")
	}
}
