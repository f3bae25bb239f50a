package pipeline

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab/gitlabtest"
)

// optionsEnv makes the test binary a pipeline with these options, as JSON.
const optionsEnv = "TEST_PIPELINE_OPTIONS"

func TestMain(m *testing.M) {
	if raw := os.Getenv(optionsEnv); raw != "" {
		var o Options
		if err := json.Unmarshal([]byte(raw), &o); err != nil {
			panic(err)
		}
		if err := Run(context.Background(), o); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// A pipeline that is killed leaves no process, and its directory is removed by
// the next one. The job's script holds a pipe, and does not go by itself.
func TestAKilledPipelineLeavesNothing(t *testing.T) {
	t.Parallel()
	dir, _ := gitlabtest.Repository(t, map[string]string{".gitlab-ci.yml": `a: {script: "trap '' HUP INT TERM; exec 3>$FIFO; echo begin >&3; sleep 600"}`})
	fifo, tmp := filepath.Join(t.TempDir(), "fifo"), t.TempDir()
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	options, err := json.Marshal(Options{
		Dir: dir, Executor: hostExecutor(t), Runner: gitlabtest.Runner(t), Variables: []string{"FIFO=" + fifo},
	})
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), optionsEnv+"="+string(options), "TMPDIR="+tmp)
	out := newBuffer()
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())

	held, err := os.OpenFile(fifo, os.O_RDWR, 0) // so that opening it does not wait for the script
	require.NoError(t, err)
	read, err := os.Open(fifo)
	require.NoError(t, err)
	defer read.Close()
	require.NoError(t, read.SetReadDeadline(time.Now().Add(2*time.Minute)))
	lines := bufio.NewReader(read)
	line, err := lines.ReadString('\n')
	require.NoError(t, err, "%s", out)
	require.Equal(t, "begin\n", line)
	require.NoError(t, held.Close())

	left := func() []string {
		found, err := filepath.Glob(filepath.Join(tmp, temporaryPrefix+"*"))
		require.NoError(t, err)
		return found
	}
	require.Len(t, left(), 1)
	removeAbandoned(left()[0])
	require.Len(t, left(), 1, "a living pipeline keeps its directory")

	require.NoError(t, cmd.Process.Kill())
	_, err = io.ReadAll(lines)
	require.NoError(t, err, "the script lives")
	_ = cmd.Wait()

	next, lock, err := temporary(tmp)
	require.NoError(t, err)
	defer lock.Close()
	assert.Equal(t, []string{next}, left())
}

func TestStopTimesSuitTheSettings(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "settings.toml")
	require.NoError(t, os.WriteFile(file, []byte("region = \"us-east-1\"\nbucket = \"b-b-b\"\nrole_arn = \"arn:aws:iam::123456789012:role/r\"\n[agent]\nstop_grace = \"2m\"\n"), 0o600))
	got, err := stopTimes(file)
	require.NoError(t, err)
	assert.Equal(t, times{stage: 3 * time.Minute, runner: 4 * time.Minute}, got)
}
