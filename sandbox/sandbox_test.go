package sandbox

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// nobody is the ordinary user as whom the tests run a second time.
const nobody = 65534

// TestAsOrdinaryUser runs all other tests again without root.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this is the ordinary user")
	}
	t.Parallel()
	tmp, err := os.MkdirTemp("", "sandbox-nobody-") //nolint:usetesting // nobody cannot enter what t.TempDir makes
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(tmp) })
	require.NoError(t, os.Chown(tmp, nobody, nobody))
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.v", "-test.timeout=5m")
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "--- PASS: TestExitStatus")
}

// system is a sandbox with this machine's system directories, read-only.
func system(t *testing.T, args ...string) Spec {
	t.Helper()
	mounts, err := System("/", "", nil)
	require.NoError(t, err)
	mounts = append(mounts, Proc{Target: "/proc"}, Dev{Target: "/dev"}, Tmpfs{Target: "/tmp", Mode: 0o1777})
	return Spec{Args: args, Env: []string{"PATH=/usr/bin:/bin"}, Mounts: mounts, UID: 1234, GID: 1234}
}

func run(t *testing.T, s Spec) (string, *Cmd, error) {
	t.Helper()
	cmd, err := Command(t.Context(), s)
	require.NoError(t, err)
	out, err := cmd.CombinedOutput()
	return string(out), cmd, err
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		script string
		code   int
		signal syscall.Signal
	}{
		"success":     {script: "true"},
		"failure":     {script: "exit 42", code: 42},
		"exit 137":    {script: "exit 137", code: 137},
		"killed":      {script: "kill -KILL $$", code: 137, signal: unix.SIGKILL},
		"terminated":  {script: "kill -TERM $$", code: 143, signal: unix.SIGTERM},
		"leaves jobs": {script: "sleep 1000 & (sleep 1000 &) ; exit 3", code: 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, cmd, err := run(t, system(t, "bash", "-c", tt.script))
			assert.Empty(t, out)
			assert.Equal(t, tt.code, cmd.ProcessState.ExitCode(), "%v", err)
			assert.Equal(t, tt.signal, cmd.KilledBy())
			assert.Equal(t, tt.code == 0, err == nil)
		})
	}
}

func TestCommandThatCannotStart(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*Spec)
		want   string
		is     error
	}{
		"no such command": {func(s *Spec) { s.Args = []string{"no-such-command"} }, "no-such-command", unix.ENOENT},
		"not executable":  {func(s *Spec) { s.Args = []string{"/etc/passwd"} }, "/etc/passwd", unix.EACCES},
		"no directory":    {func(s *Spec) { s.Dir = "/nowhere" }, "/nowhere", unix.ENOENT},
		"no source": {func(s *Spec) {
			s.Mounts = append(s.Mounts, Bind{Source: "/nonexistent-source", Target: "/x"})
		}, "/nonexistent-source", unix.ENOENT},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := system(t, "true")
			tt.change(&s)
			cmd, err := Command(t.Context(), s)
			require.NoError(t, err)
			err = cmd.Start()
			require.ErrorIs(t, err, tt.is)
			assert.ErrorContains(t, err, tt.want)
		})
	}
}

func TestInvalidSpec(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		spec Spec
		want string
	}{
		"no command":     {Spec{}, "no command"},
		"relative":       {Spec{Args: []string{"x"}, Mounts: []Mount{Tmpfs{Target: "tmp"}}}, `"tmp"`},
		"dots":           {Spec{Args: []string{"x"}, Mounts: []Mount{Tmpfs{Target: "/a/../b"}}}, `"/a/../b"`},
		"late root":      {Spec{Args: []string{"x"}, Mounts: []Mount{Tmpfs{Target: "/a"}, Tmpfs{Target: "/"}}}, "first"},
		"proc as root":   {Spec{Args: []string{"x"}, Mounts: []Mount{Proc{Target: "/"}}}, "cannot be the root"},
		"negative user":  {Spec{Args: []string{"x"}, UID: -1}, "-1"},
		"negative group": {Spec{Args: []string{"x"}, GID: -2}, "-2"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Command(t.Context(), tt.spec)
			assert.ErrorContains(t, err, tt.want)
		})
	}
}

// TestWhatIsSeen asks from inside what there is.
func TestWhatIsSeen(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("s3cret"), 0o644))
	tests := map[string]struct {
		script string
		want   string
	}{
		"user":            {"id -u; id -g", "1234\n1234\n"},
		"root directory":  {"cd /; ls -d dev etc proc tmp usr; ls -d home root var boot mnt 2>/dev/null", "dev\netc\nproc\ntmp\nusr\n"},
		"processes":       {"for p in /proc/[0-9]*; do echo ${p#/proc/}; done | sort -n | head -n 1; ls -d /proc/[0-9]* | wc -l | grep -qE '^[1-6]$' && echo few", "1\nfew\n"},
		"other's file":    {"cat " + secret + " 2>/dev/null || echo none", "none\n"},
		"environment":     {"env -u PWD -u SHLVL -u _ env", "PATH=/usr/bin:/bin\n"},
		"init's env":      {"cat /proc/1/environ 2>&1 | tr -d '\\0' | grep -c . ; test -r /proc/1/mem || true", "1\n"},
		"hostname":        {"cat /proc/sys/kernel/hostname", "sandbox\n"},
		"capabilities":    {"grep -E 'Cap(Prm|Eff|Bnd|Amb)' /proc/self/status | sort -u | cut -f2 | sort -u", "0000000000000000\n"},
		"no new privs":    {"grep NoNewPrivs /proc/self/status | cut -f2", "1\n"},
		"write to usr":    {"touch /usr/x 2>/dev/null || echo refused", "refused\n"},
		"write to etc":    {"touch /etc/x 2>/dev/null || echo refused", "refused\n"},
		"write to sysctl": {"(echo x > /proc/sys/kernel/core_pattern) 2>/dev/null || echo refused", "refused\n"},
		"mount":           {"mount -t tmpfs x /tmp 2>/dev/null || echo refused", "refused\n"},
		"devices":         {"echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; ls /dev | sort | tr '\\n' ' '", "3\n3\nfd full null ptmx pts random shm stderr stdin stdout tty urandom zero "},
		"terminals":       {"test -c /dev/ptmx && (: < /dev/ptmx) && echo ok", "ok\n"},
		"shared memory":   {"echo x > /dev/shm/x && cat /dev/shm/x", "x\n"},
		"stdout by name":  {"echo one > /dev/stdout; echo two > /dev/stderr", "one\ntwo\n"},
		"umask":           {"umask", "0022\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, _, err := run(t, system(t, "bash", "-c", tt.script))
			assert.Equal(t, tt.want, out, "%v", err)
		})
	}
}

func TestSignalGroup(t *testing.T) {
	t.Parallel()
	s := system(t, "bash", "-c", `trap 'exit 5' TERM; bash -c 'echo ready; exec sleep 1000'; :`)
	s.SignalGroup = true
	cmd, err := Command(t.Context(), s)
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = out.Read(make([]byte, 6))
	require.NoError(t, err)
	require.NoError(t, cmd.Signal(unix.SIGTERM))
	assert.Error(t, cmd.Wait())
	assert.Equal(t, 5, cmd.ProcessState.ExitCode())
}

func TestSignalReachesTheCommand(t *testing.T) {
	t.Parallel()
	cmd, err := Command(t.Context(), system(t, "bash", "-c", `trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.01; done`))
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	b := make([]byte, 6)
	_, err = out.Read(b)
	require.NoError(t, err)
	require.NoError(t, cmd.Signal(unix.SIGTERM))
	_, err = out.Read(b)
	require.NoError(t, err)
	assert.Equal(t, "got\n", string(b[:4]))
	assert.Error(t, cmd.Wait())
	assert.Equal(t, 5, cmd.ProcessState.ExitCode())
	assert.Zero(t, cmd.KilledBy())
}

func TestContextKillsEverything(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cmd, err := Command(ctx, system(t, "bash", "-c", `trap '' TERM; (trap '' TERM; sleep 1000) & echo ready; wait`))
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = out.Read(make([]byte, 6))
	require.NoError(t, err)
	cancel()
	// The background process holds stdout: its end is the end of the output.
	_, err = out.Read(make([]byte, 1))
	require.Error(t, err)
	require.Error(t, cmd.Wait())
	assert.Equal(t, unix.SIGKILL, cmd.KilledBy())
}

// TestParentDies kills a process that has a sandbox with a process that
// ignores signals, and sees that one go.
func TestParentDies(t *testing.T) {
	if os.Getenv("SANDBOX_TEST_PARENT") != "" {
		cmd, err := Command(context.Background(), system(t, "bash", "-c", `trap '' TERM HUP; echo ready; sleep 1000`))
		require.NoError(t, err)
		cmd.Stdout = os.Stdout
		require.NoError(t, cmd.Start())
		_ = cmd.Wait()
		return
	}
	t.Parallel()
	parent := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestParentDies$")
	parent.Env = append(os.Environ(), "SANDBOX_TEST_PARENT=1")
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	b := make([]byte, 6)
	_, err = out.Read(b)
	require.NoError(t, err)
	require.Equal(t, "ready\n", string(b))
	require.NoError(t, parent.Process.Kill())
	n, err := out.Read(b) // returns when nobody holds the pipe any more
	assert.Zero(t, n, "%s", b)
	require.Error(t, err)
	_ = parent.Wait()
}

func TestExtraFiles(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	_, err = w.WriteString("echo from a descriptor")
	require.NoError(t, err)
	require.NoError(t, w.Close())
	cmd, err := Command(t.Context(), system(t, "bash", "-c", "eval \"$(cat <&3)\"; ls -l /proc/self/fd | grep -c socket"))
	require.NoError(t, err)
	cmd.ExtraFiles = []*os.File{r}
	out, _ := cmd.Output()
	assert.Equal(t, "from a descriptor\n0\n", string(out))
}

func TestNetworkNone(t *testing.T) {
	t.Parallel()
	s := system(t, "bash", "-c", "tail -n +3 /proc/net/dev | wc -l; tail -n +2 /proc/net/fib_trie | grep -c 'host LOCAL'; tail -n +2 /proc/net/route | wc -l")
	s.Network = NetworkNone
	out, _, err := run(t, s)
	require.NoError(t, err, out)
	assert.True(t, strings.HasPrefix(out, "1\n"), out) // lo alone
	assert.True(t, strings.HasSuffix(out, "\n0\n"), out)
	assert.NotContains(t, out, "\n0\n0\n", "lo has no address: %s", out)
}

func TestRlimits(t *testing.T) {
	t.Parallel()
	s := system(t, "bash", "-c", "ulimit -n; ulimit -c")
	s.Rlimits = map[int]Rlimit{unix.RLIMIT_NOFILE: {Soft: 123, Hard: 200}, unix.RLIMIT_CORE: {}}
	out, _, err := run(t, s)
	require.NoError(t, err)
	assert.Equal(t, "123\n0\n", out)
}

func TestLimits(t *testing.T) {
	t.Parallel()
	if err := LimitsAvailable(); err != nil {
		require.ErrorIs(t, err, ErrUnsupported)
		s := system(t, "true")
		s.Limits = Limits{MemoryBytes: 1 << 26}
		_, _, err := run(t, s)
		require.ErrorIs(t, err, ErrUnsupported)
		return
	}
	s := system(t, "bash", "-c", "python3 -c 'bytearray(b\"x\") * (1 << 30)'; echo $?")
	s.Limits = Limits{MemoryBytes: 32 << 20, Pids: 20}
	out, cmd, err := run(t, s)
	require.NoError(t, err, out)
	assert.Contains(t, out, "137")
	assert.True(t, cmd.OOMKilled())

	s = system(t, "python3", "-c", "import os, signal\nfor i in range(50):\n  if not os.fork(): signal.pause()")
	s.Limits = Limits{Pids: 20}
	out, cmd, err = run(t, s)
	require.Error(t, err)
	assert.Contains(t, out, "BlockingIOError")
	assert.False(t, cmd.OOMKilled())
}

// TestContextEndsDuringSetUp holds process 1 up before it answers: a control
// group's file that is a pipe cannot be opened before somebody reads.
func TestContextEndsDuringSetUp(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*Cmd){
		"killed": func(*Cmd) {},
		"asked to end": func(c *Cmd) {
			c.Cancel = func() error { return c.Signal(unix.SIGTERM) }
			c.WaitDelay = time.Millisecond
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reached, never := openDirs(t, t.TempDir()), openDirs(t, t.TempDir()) // sorted
			for _, dir := range []string{reached, never} {
				require.NoError(t, unix.Mkfifo(filepath.Join(dir, "cgroup.procs"), 0o666))
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			cmd, err := Command(ctx, system(t, "true"))
			require.NoError(t, err)
			cmd.group = &cgroup{dirs: map[string]string{"a": reached, "b": never}}
			change(cmd)
			started := make(chan error, 1)
			go func() { started <- cmd.Start() }()
			f, err := os.Open(filepath.Join(reached, "cgroup.procs"))
			require.NoError(t, err)
			defer f.Close()
			cancel()
			require.ErrorIs(t, <-started, context.Canceled)
		})
	}
}
