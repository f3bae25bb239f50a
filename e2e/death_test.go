package e2e_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// driver finds the executor's process for a stage of a job, as the runner has
// started it.
func driver(t *testing.T, j *gitlab.Job, stages ...string) int {
	t.Helper()
	var found int
	require.Eventually(t, func() bool {
		processes, err := os.ReadDir("/proc")
		require.NoError(t, err)
		for _, process := range processes {
			pid, err := strconv.Atoi(process.Name())
			if err != nil {
				continue
			}
			arguments, err := os.ReadFile(filepath.Join("/proc", process.Name(), "cmdline"))
			if err != nil {
				continue
			}
			args := strings.Split(strings.TrimSuffix(string(arguments), "\x00"), "\x00")
			if args[0] != executor || len(args) != 4 || args[1] != "run" || !strings.Contains(strings.Join(stages, " "), args[3]) {
				continue
			}
			environ, err := os.ReadFile(filepath.Join("/proc", process.Name(), "environ"))
			if err == nil && bytes.Contains(environ, []byte("CUSTOM_ENV_CI_JOB_ID="+strconv.FormatInt(j.ID(), 10)+"\x00")) &&
				bytes.Contains(environ, []byte(mustMark(j))) {
				found = pid
			}
		}
		return found != 0
	}, time.Minute, 50*time.Millisecond)
	return found
}

func mustMark(j *gitlab.Job) string {
	for _, v := range j.Payload().Variables {
		if v.Key == "E2E_MARK" {
			return "CUSTOM_ENV_E2E_MARK=" + v.Value + "\x00"
		}
	}
	panic("a job without a mark")
}

func TestKillNineOfRun(t *testing.T) {
	t.Parallel()
	s := startStack(t, stackOptions{agent: `dead_after = "15s"`})
	j := s.start(t, job{script: lines(started, "sleep 300"), after: lines(`printf 'af%s\n' ter`)})
	waitOutput(t, j, "started\n")
	require.NoError(t, syscall.Kill(driver(t, j, "step_script", "build_script"), syscall.SIGKILL))
	got := end(t, j)
	assert.Equal(t, gitlab.StateFailed, got.State)
	assert.Equal(t, "runner_system_failure", got.FailureReason)
}

// The runner's host is gone, all at once: nobody stops the instance, so its agent
// does. When the runner is back, cleanup finds what is left.
func TestKillNineOfTheRunnersHost(t *testing.T) {
	t.Parallel()
	s := startStack(t, stackOptions{agent: `dead_after = "8s"`})
	j, err := s.gitlab.Enqueue(job{script: lines(started, "sleep 600")}.payload(s, mark(t), nil))
	require.NoError(t, err)
	waitOutput(t, j, "started\n")
	pid := driver(t, j, "step_script", "build_script")
	environ, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	require.NoError(t, err)
	response := keepResponse(t, environ)
	s.runner.Kill()
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))

	ctx := context.Background()
	require.Eventually(t, func() bool {
		jobs := s.trainingJobs(ctx, t, j)
		return len(jobs) == 1 && jobs[0].TrainingJobStatus != "InProgress" && jobs[0].TrainingJobStatus != "Stopping"
	}, 90*time.Second, 200*time.Millisecond, "the agent has not ended itself")

	cleanUp(t, environ, response)
	s.nothingLeft(t, j)
	cleanUp(t, environ, response) // again: it is idempotent
}

// Only the runner is gone: its orphan ends by itself, and so does the instance.
func TestKillNineOfTheRunner(t *testing.T) {
	t.Parallel()
	s := startStack(t, stackOptions{agent: `dead_after = "8s"`})
	j, err := s.gitlab.Enqueue(job{script: lines(started, "sleep 600")}.payload(s, mark(t), nil))
	require.NoError(t, err)
	waitOutput(t, j, "started\n")
	pid := driver(t, j, "step_script", "build_script")
	environ, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	require.NoError(t, err)
	response := keepResponse(t, environ)
	s.runner.Kill()

	require.Eventually(t, func() bool { return syscall.Kill(pid, 0) != nil }, 90*time.Second, 200*time.Millisecond,
		"the run stage goes on without its runner, and with it the instance")
	require.Eventually(t, func() bool {
		jobs := s.trainingJobs(context.Background(), t, j)
		return len(jobs) == 1 && jobs[0].TrainingJobStatus != "InProgress" && jobs[0].TrainingJobStatus != "Stopping"
	}, 90*time.Second, 200*time.Millisecond, "the instance goes on")
	cleanUp(t, environ, response)
	s.nothingLeft(t, j)
}

// keepResponse keeps the trusted job, which the runner had given to the stage.
func keepResponse(t *testing.T, environ []byte) string {
	t.Helper()
	for entry := range strings.SplitSeq(string(environ), "\x00") {
		if path, ok := strings.CutPrefix(entry, "JOB_RESPONSE_FILE="); ok {
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			kept := filepath.Join(t.TempDir(), "response.json")
			require.NoError(t, os.WriteFile(kept, content, 0o600))
			return kept
		}
	}
	t.Fatal("the stage has no JOB_RESPONSE_FILE")
	return ""
}

// cleanUp runs the cleanup stage in the environment that another stage had.
func cleanUp(t *testing.T, environ []byte, response string) {
	t.Helper()
	cmd := exec.Command(executor, "cleanup")
	cmd.Dir = t.TempDir()
	for entry := range strings.SplitSeq(strings.TrimSuffix(string(environ), "\x00"), "\x00") {
		if strings.HasPrefix(entry, "JOB_RESPONSE_FILE=") || strings.HasPrefix(entry, "TMPDIR=") {
			continue
		}
		cmd.Env = append(cmd.Env, entry)
	}
	cmd.Env = append(cmd.Env, "JOB_RESPONSE_FILE="+response, "TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// The container is stopped by somebody else while the script runs.
func TestJobStoppedFromOutside(t *testing.T) {
	t.Parallel()
	j := shared.start(t, job{script: lines(started, "sleep 300"), after: lines(`printf 'af%s\n' ter`)})
	waitOutput(t, j, "started\n")
	jobs := shared.trainingJobs(t.Context(), t, j)
	require.Len(t, jobs, 1)
	shared.stopTrainingJob(t, *jobs[0].TrainingJobName)
	got := end(t, j)
	assert.Equal(t, gitlab.StateFailed, got.State)
	assert.Equal(t, "script_failure", got.FailureReason)
	assert.Equal(t, 143, got.ExitCode)
	assert.NotContains(t, string(got.log), "after\n", "there is no container for it")
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	s := startStack(t, stackOptions{limits: `{"memory_mib": {"ml.m5.large": 300}}`})
	eat := `python3 -c 'x = bytearray(1); exec("while True: x += bytes(1 << 20)")'`
	for name, script := range map[string][]string{
		"a child":    lines("echo before", eat, "echo never"),
		"in a pipe":  lines("echo before", eat+" | cat", "echo never"),
		"in a group": lines("echo before", "("+eat+"; exit $?)", "echo never"),
	} {
		t.Run(name, func(t *testing.T) {
			got := s.run(t, job{script: script, after: lines("echo after")})
			assert.Equal(t, gitlab.StateFailed, got.State)
			assert.Equal(t, "script_failure", got.FailureReason)
			assert.Equal(t, 137, got.ExitCode)
			assert.Regexp(t, `(?i)out of memory`, string(got.log))
			assert.Contains(t, output(got.log, "step_script"), "before\n", "the agent outlives its script")
			assert.Contains(t, output(got.log, "after_script"), "after\n")
			assert.NotContains(t, output(got.log, "step_script"), "\nnever\n")
		})
	}
}
