package sagemaker

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/stretchr/testify/require"
)

// child starts this test binary once more, as a process of its own that runs
// one test.
func child(t *testing.T, test, tmp string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^("+test+")$", "-test.v")
	cmd.Env = append(env, "PATH="+os.Getenv("PATH"), "TMPDIR="+tmp)
	return cmd
}

const serverDirVariable = "TEST_SERVER_DIR"

// TestServerProcess is the process that TestKilledServerLeavesNothing kills.
func TestServerProcess(t *testing.T) {
	dir := os.Getenv(serverDirVariable)
	if dir == "" {
		t.Skip("is run by TestKilledServerLeavesNothing")
	}
	f := &fixture{T: t, dir: dir, objects: &memoryObjects{objects: map[string][]byte{}}, logs: &memoryLogs{streams: map[string][]string{}}}
	f.start(nil)
	f.create(request("killed", "sh -c 'sleep 301; : "+filepath.Base(dir)+"' & echo ready; trap '' TERM; while :; do sleep 0.1; done"))
	f.logged("killed", "ready")
	os.Stdout.WriteString("SERVER READY\n")
	<-t.Context().Done()
}

// commandLines are all processes' whose arguments hold text.
func commandLines(t *testing.T, text string) (found []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(b), text) {
			found = append(found, f+": "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return found
}

func TestKilledServerLeavesNothing(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp(t.TempDir(), "server-marker-") //nolint:usetesting // the name is looked for among all processes
	require.NoError(t, err)
	server := child(t, "TestServerProcess", t.TempDir(), serverDirVariable+"="+dir)
	out, err := server.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	lines := bufio.NewScanner(out)
	ready := false
	for lines.Scan() {
		if ready = lines.Text() == "SERVER READY"; ready {
			break
		}
	}
	require.True(t, ready)
	marker := filepath.Base(dir)
	require.NotEmpty(t, commandLines(t, marker), "the container runs")

	require.NoError(t, server.Process.Signal(syscall.SIGKILL))
	require.Error(t, server.Wait())
	require.Eventually(t, func() bool { return len(commandLines(t, marker)) == 0 }, 10*time.Second, 20*time.Millisecond, "%v", commandLines(t, marker))
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	require.NotContains(t, string(mounts), marker)

	f := &fixture{T: t, dir: dir, objects: &memoryObjects{objects: map[string][]byte{}}, logs: &memoryLogs{streams: map[string][]string{}}}
	f.start(nil)
	d := f.describe("killed")
	require.Equal(t, types.TrainingJobStatusFailed, d.TrainingJobStatus)
	require.Equal(t, internalError, *d.FailureReason)
}

// TestAsAnOrdinaryUser runs the tests that matter without root.
func TestAsAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("all tests run as an ordinary user already")
	}
	const user = 4321
	tmp := t.TempDir()
	require.NoError(t, os.Chown(tmp, user, user))
	require.NoError(t, os.Chmod(filepath.Dir(tmp), 0o711)) // on the way to it
	cmd := child(t, "TestJobRunsToCompletion|TestTheMachinesDataIsNotThere|TestImages|TestStopKillsWhatIgnoresTerm|TestHostsTalkToEachOther|TestNetworkIsolation|TestCheckpointsAreSentWhileTheJobRuns", tmp)
	cmd.Dir = tmp
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.NotContains(t, string(out), "SKIP")
	require.Equal(t, 7, strings.Count(string(out), "--- PASS"))
}
