package keeper

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// stubborn leaves a process in a session of its own, which is told nothing, and
// another one below it; both hold the output.
const stubborn = `exec 3>&1; trap "" HUP INT TERM
read < <(setsid bash -c '(sleep 600 & exec sleep 600) & echo up; wait')
`

// kept is a keeper that has started a bash script which said "ready".
type kept struct {
	*exec.Cmd
	leash *os.File
	out   *bufio.Reader
}

func begin(t *testing.T, script string) *kept {
	t.Helper()
	bash, err := exec.LookPath("bash")
	require.NoError(t, err)
	in, leash, err := os.Pipe()
	require.NoError(t, err)
	out, held, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = leash.Close(), out.Close() })
	k := &kept{Cmd: exec.CommandContext(t.Context(), "/proc/self/exe"), leash: leash, out: bufio.NewReader(out)}
	k.Args = []string{Name, bash, "-c", script}
	k.Stdin, k.Stdout, k.Stderr = in, held, os.Stderr
	require.NoError(t, k.Start())
	require.NoError(t, in.Close())
	require.NoError(t, held.Close())
	line, err := k.out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return k
}

// end waits until no process holds the output any more.
func (k *kept) end(t *testing.T) (rest string, code int) {
	t.Helper()
	left, err := io.ReadAll(k.out)
	require.NoError(t, err)
	_ = k.Wait()
	return string(left), k.ProcessState.ExitCode()
}

func TestNothingStays(t *testing.T) {
	t.Parallel()
	t.Run("when the starter is gone", func(t *testing.T) {
		t.Parallel()
		k := begin(t, stubborn+"echo ready; sleep 600")
		require.NoError(t, k.leash.Close())
		_, code := k.end(t)
		assert.Equal(t, 137, code)
	})
	t.Run("when the command has ended", func(t *testing.T) {
		t.Parallel()
		k := begin(t, stubborn+`trap 'exit 42' TERM; echo ready; sleep 600 & wait $!`)
		require.NoError(t, k.Process.Signal(unix.SIGHUP), "is nothing to it")
		require.NoError(t, k.Process.Signal(unix.SIGINT), "is nothing to it")
		require.NoError(t, k.Process.Signal(unix.SIGTERM))
		_, code := k.end(t)
		assert.Equal(t, 42, code)
	})
	t.Run("when the command was killed", func(t *testing.T) {
		t.Parallel()
		k := begin(t, stubborn+"echo ready; kill -KILL $$")
		_, code := k.end(t)
		assert.Equal(t, 137, code)
	})
}

func TestWhatCannotStart(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Args = []string{Name, "/nonexistent"}
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	assert.Equal(t, 127, cmd.ProcessState.ExitCode())
	assert.Equal(t, "start /nonexistent: no such file or directory\n", string(out))
}
