package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// AWS is gone for a while: whoever asks gets no answer. The job goes on.
func TestLongOutage(t *testing.T) {
	t.Parallel()
	needLong(t)
	s := startStack(t, stackOptions{agent: `dead_after = "5m"`})
	j := s.start(t, job{
		script:    lines(started, `for i in $(seq 60); do echo "line $i"; sleep 1; done`, "echo made > made"),
		artifacts: []gitlab.Artifact{gitlab.Archive("made")},
	})
	waitOutput(t, j, "line 3\n")
	require.NoError(t, s.process.Process.Signal(syscall.SIGSTOP))
	time.Sleep(time.Minute) // the length of the outage is the test
	require.NoError(t, s.process.Process.Signal(syscall.SIGCONT))
	got := end(t, j)
	assert.Equal(t, gitlab.StateSuccess, got.State)
	var want string
	for i := range 60 {
		want += fmt.Sprintf("line %d\n", i+1)
	}
	assert.Contains(t, output(got.log, "step_script"), want, "no line is lost")
	assert.Equal(t, []string{"made"}, names(got.archive(t)))
}

// S3 refuses for a moment, as it does when it is told to slow down.
func TestS3SlowsDown(t *testing.T) {
	t.Parallel()
	s := startStack(t, stackOptions{})
	for _, operation := range []string{"PutObject", "GetObject", "ListObjectsV2"} {
		s.fault(t, fmt.Sprintf(`{"service": "s3", "operation": %q, "error": "SlowDown", "status": 503, "count": 2}`, operation))
	}
	got := s.run(t, job{script: lines("echo fine", "echo made > made"), artifacts: []gitlab.Artifact{gitlab.Archive("made")}})
	assert.Equal(t, gitlab.StateSuccess, got.State)
	assert.Equal(t, []string{"made"}, names(got.archive(t)))
}

// Past GitLab's limit the log ends, but not what matters: how the job ended. All
// of the output is still in S3.
func TestLongFloodOfOutput(t *testing.T) {
	t.Parallel()
	needLong(t)
	s := startStack(t, stackOptions{})
	got := s.run(t, job{script: lines(
		`head -c 50000000 /dev/zero | tr '\0' 'x' | fold -w 99`, `echo the last line; exit 42`,
	)})
	assert.Equal(t, gitlab.StateFailed, got.State)
	assert.Equal(t, 42, got.ExitCode)
	assert.Less(t, len(got.log), 4<<20+64<<10, "within output_limit")
	assert.Contains(t, string(got.log), "\nthe last line\n", "the end is shown")
	assert.Contains(t, string(got.log), "exit status 42")
	assert.GreaterOrEqual(t, s.keptOutput(t, got.job), int64(50_000_000+50_000_000/99), "all of it is kept")
}

// A disk that is full on the runner's host is not the user's fault, and says so.
func TestFullDiskOfTheRunner(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("mounts a small file system: needs root")
	}
	s := startStack(t, stackOptions{})
	require.NoError(t, exec.Command("mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs", s.work).Run())
	t.Cleanup(func() { require.NoError(t, exec.Command("umount", s.work).Run()) })
	got := s.run(t, job{
		script:    lines("head -c 30000000 /dev/urandom > big"),
		artifacts: []gitlab.Artifact{gitlab.Archive("big")},
	})
	assert.Equal(t, gitlab.StateFailed, got.State)
	assert.Equal(t, "runner_system_failure", got.FailureReason)
	assert.Contains(t, string(got.log), "no space left on device")
}

// The sample project's pipeline: what make demo runs.
func TestSampleProject(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repository := filepath.Join(dir, "breast-cancer")
	require.NoError(t, os.CopyFS(repository, os.DirFS(filepath.Join("..", "testdata", "projects", "breast-cancer"))))
	s := &sources{projects: map[string]repositoryOf{}}
	require.NoError(t, git("", "init", "--quiet", "--initial-branch=main", repository))
	require.NoError(t, s.commit(repository, "group/breast-cancer"))
	artifacts := filepath.Join(dir, "artifacts")

	cmd := exec.Command(executor, "local", "pipeline", "--runner", runner, "--artifacts", artifacts, repository)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "epoch=30 ")
	assert.FileExists(t, filepath.Join(artifacts, "train", "report", "model.json"))
	assert.FileExists(t, filepath.Join(artifacts, "train", "report", "metrics.json"))
	assert.Regexp(t, `accuracy=0\.9\d+ recall=0\.9\d+`, string(out))
}
