package host

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const nobody = 65534

// TestAsOrdinaryUser runs all other tests again without root.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this is the ordinary user")
	}
	t.Parallel()
	tmp, err := os.MkdirTemp("", "host-nobody-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(tmp) })
	require.NoError(t, os.Chown(tmp, nobody, nobody))
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.v", "-test.timeout=5m")
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "HOME="+tmp)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "--- PASS: TestHostileScripts")
}

// fakeRunner stands for the gitlab-runner program.
func fakeRunner(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "some-name")
	require.NoError(t, os.WriteFile(name, []byte("#!/bin/sh\necho \"gitlab-runner called with $*\"\n"), 0o755))
	return name
}

var nextJob atomic.Int64

func options(t testing.TB, workDir string) Options {
	t.Helper()
	id := 1000 + nextJob.Add(1)
	return Options{
		Instance: "0a1b2c", ProjectID: 7, Protection: "open", JobID: id,
		WorkDir: workDir, BuildsDir: fmt.Sprintf("/tmp/builds/%d", id), CacheDir: "/tmp/cache",
		Runner: fakeRunner(t), UIDBase: 300000, UIDCount: 100, StopGrace: 10 * time.Second,
	}
}

func prepared(t testing.TB, o Options) *Host {
	t.Helper()
	h := New(o)
	require.NoError(t, h.Prepare(context.Background()))
	t.Cleanup(func() { assert.NoError(t, h.Cleanup(context.Background())) })
	return h
}

// scriptFile is a script as the runner writes it: in a directory and with a
// mode that let nobody else in.
func scriptFile(t testing.TB, text string) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "script")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o700))
	f, err := os.Open(name)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func run(t testing.TB, h *Host, text string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	code, err := h.Run(context.Background(), scriptFile(t, text), &out, &out)
	require.NoError(t, err, "%s", out.String())
	return out.String(), code
}

// generated has the shape that GitLab Runner 19.4 gives its bash scripts.
func generated(commands string) string {
	quoted := "$'" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`).Replace(commands) + "'"
	return "#!/usr/bin/env bash\n\ntrap 'exit 1' TERM\n\n" +
		`case "$(set -o)" in *"pipefail"*) set -o pipefail;; esac; set -o errexit` + "\nset +o noclobber\n" +
		"(trap 'exit 1' TERM; eval " + quoted + ") < /dev/null\nexit 0\n"
}

func TestRun(t *testing.T) {
	t.Parallel()
	h := prepared(t, options(t, t.TempDir()))
	tests := map[string]struct {
		script string
		want   string
		code   int
	}{
		"success":          {"echo hello; echo error >&2", "hello\nerror\n", 0},
		"exit code":        {"exit 42", "", 42},
		"failing command":  {"false; echo unreachable", "", 1},
		"killed":           {"kill -KILL $$", "", 137},
		"stdin is empty":   {"cat; echo end", "end\n", 0},
		"gitlab-runner":    {"gitlab-runner artifacts-uploader --name 'a b'", "gitlab-runner called with artifacts-uploader --name a b\n", 0},
		"environment":      {"env -u _ -u SHLVL -u PWD -u OLDPWD env | sort", "HOME=/home/job\nLANG=C.UTF-8\nLOGNAME=job\nPATH=" + pathInside + "\nSHELL=/bin/bash\nTMPDIR=/tmp\nUSER=job\n", 0},
		"user has a name":  {"id -un; test -w ~ && echo home", "job\nhome\n", 0},
		"builds directory": {"cd " + h.o.BuildsDir + " && mkdir p && echo x > p/f && cat p/f && rm -r p", "x\n", 0},
		"temporary files":  {"f=$(mktemp) && echo ok > $f && cat $f", "ok\n", 0},
		"git":              {"cd " + h.o.BuildsDir + " && git init -q r && cd r && git status --short && git config --global a.b c && git config a.b", "c\n", 0},
		"quotes":           {`echo 'it'\''s' "\\n $HOME"`, "it's \\n /home/job\n", 0},
		"stdout by name":   {"echo a > /dev/stdout; echo b | tee /dev/stderr", "a\nb\nb\n", 0},
		"names resolve":    {"getent hosts localhost >/dev/null && cat /etc/resolv.conf | wc -c | grep -qv '^0$' && echo ok", "ok\n", 0},
		"CA certificates":  {"ls /etc/ssl/certs | wc -l | grep -qv '^0$' && echo ok", "ok\n", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, code := run(t, h, generated(tt.script))
			assert.Equal(t, tt.code, code, out)
			assert.Equal(t, tt.want, out)
		})
	}
}

// TestHostileScripts tries to get at what is not the job's.
func TestHostileScripts(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	other := prepared(t, options(t, work))
	require.NoError(t, os.WriteFile(filepath.Join(other.Builds(), "secret"), []byte("other job's"), 0o644))
	require.NoError(t, other.Own())
	h := prepared(t, options(t, work))
	config := filepath.Join(work, "config.toml")
	require.NoError(t, os.WriteFile(config, []byte("token"), 0o644))
	// A process outside to signal and to trace, of the same user if we are an
	// ordinary one, with a secret in its environment.
	victim := exec.CommandContext(t.Context(), "sleep", "1000")
	victim.Env = []string{"AWS_SECRET_ACCESS_KEY=hunter2"}
	require.NoError(t, victim.Start())
	t.Cleanup(func() { _ = victim.Process.Kill(); _ = victim.Wait() })
	pid := strconv.Itoa(victim.Process.Pid)

	tests := map[string]struct{ script, want string }{
		"shadow":                  {"cat /etc/shadow 2>&1", "cat: /etc/shadow: No such file or directory\n"},
		"runner configuration":    {"ls /etc/gitlab-runner " + config + " 2>/dev/null; echo none", "none\n"},
		"other job":               {"find / -name secret -not -path '/proc/*' -not -path '/usr/*' -not -path '/etc/*' 2>/dev/null; ls /tmp/builds | wc -l", "1\n"},
		"other job by path":       {"cat " + filepath.Join(other.Builds(), "secret") + " /tmp/builds/../../" + other.base + "/builds/secret 2>/dev/null; echo none", "none\n"},
		"environment of others":   {"cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep -E 'AWS|hunter2|TMPDIR=/[^t]'; echo none", "none\n"},
		"processes of others":     {"ls -d /proc/[0-9]* | wc -l | grep -qE '^[0-9]$' && echo few", "few\n"},
		"kill all":                {"trap '' TERM; kill -TERM -1 2>/dev/null; kill -9 " + pid + " 2>/dev/null; echo done", "done\n"},
		"memory of process 1":     {"head -c 1 /proc/1/mem >/dev/null 2>&1 || echo refused; cat /proc/1/environ 2>/dev/null; ls /proc/1/root 2>/dev/null; echo end", "refused\nend\n"},
		"write to the system":     {"for d in / /usr /usr/bin /etc /opt/gitlab-runner/bin /home /run; do touch $d/x 2>/dev/null && echo wrote to $d; done; echo none", "none\n"},
		"replace the runner":      {"(echo x > " + runnerInside + ") 2>/dev/null || echo refused", "refused\n"},
		"write to sysctl":         {"(echo x > /proc/sys/kernel/hostname) 2>/dev/null || echo refused", "refused\n"},
		"mount":                   {"mount -t tmpfs x /mnt 2>/dev/null || mount --bind / /tmp 2>/dev/null || echo refused", "refused\n"},
		"more namespaces and out": {"unshare -r sh -c 'umount /etc; umount -l /tmp; cat /etc/shadow; ls " + work + "' 2>/dev/null; echo none", "none\n"},
		"set-uid program":         {"su root -c id 2>/dev/null </dev/null || echo refused", "refused\n"},
		"device":                  {"mknod /tmp/d b 8 0 2>/dev/null || echo refused; ls /dev | grep -E 'sd|vd|nvme|mem|kmsg'; echo none", "refused\nnone\n"},
		// Descriptor 0 is the script, 1 and 2 are pipes.
		"open descriptors":     {"exec </dev/null; for f in /proc/self/fd/*; do readlink $f; done | grep -vE '^(/dev/null|pipe:|/proc/|$)'; echo none", "none\n"},
		"script of the runner": {"(echo x > /proc/$PPID/fd/0) 2>/dev/null; (echo x >> /proc/1/fd/0) 2>/dev/null || echo refused", "refused\n"},
		"kernel keys":          {"cat /proc/keys 2>/dev/null | grep -c . ; echo end", "0\nend\n"},
		"instance of gitlab":   {"ls /var/lib /root /home/gitlab-runner /srv 2>/dev/null; echo none", "none\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, _ := run(t, h, tt.script)
			assert.Equal(t, tt.want, out)
		})
	}
	t.Cleanup(func() { assert.NoError(t, victim.Process.Signal(syscall.Signal(0)), "the process outside is alive") })
}

func TestBackgroundProcessesAreGone(t *testing.T) {
	t.Parallel()
	h := prepared(t, options(t, t.TempDir()))
	mark := filepath.Join(h.Builds(), "alive")
	out, code := run(t, h, `
exec 3<> `+h.o.BuildsDir+`/fifo.$$ 2>/dev/null
(trap '' TERM HUP INT; setsid bash -c 'trap "" TERM; while :; do touch `+h.o.BuildsDir+`/alive; sleep 0.01; done' &) >/dev/null 2>&1
while [ ! -e `+h.o.BuildsDir+`/alive ]; do :; done
echo left`)
	assert.Equal(t, "left\n", out)
	assert.Zero(t, code)
	// Who still wrote would make it again.
	require.NoError(t, os.Remove(mark))
	out, _ = run(t, h, "ls -d /proc/[0-9]* | wc -l | grep -qE '^[0-9]$' && ls "+h.o.BuildsDir)
	assert.NotContains(t, out, "alive")
}

func TestStop(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		script string
		grace  time.Duration
		code   int
		want   string
	}{
		"ends on SIGTERM":       {generated("bash -c 'echo ready; exec sleep 1000'"), time.Minute, 1, "ready\n"},
		"has time to clean up":  {`trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done`, time.Minute, 7, "ready\nbye\n"},
		"ignores SIGTERM":       {`trap '' TERM; echo ready; while :; do sleep 0.01; done`, time.Millisecond, 137, "ready\n"},
		"has processes that do": {`(trap "" TERM; sleep 1000) & bash -c 'echo ready; exec sleep 1000'; :`, time.Minute, 143, "ready\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t, t.TempDir())
			o.StopGrace = tt.grace
			h := prepared(t, o)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := &stopper{stop: cancel}
			code, err := h.Run(ctx, scriptFile(t, tt.script), out, io.Discard)
			require.ErrorIs(t, err, ErrStopped)
			require.ErrorIs(t, err, context.Canceled)
			assert.Equal(t, tt.code, code)
			assert.Equal(t, tt.want, out.String())
		})
	}
}

// stopper cancels when the script says that it is ready.
type stopper struct {
	seen bytes.Buffer
	stop func()
}

func (s *stopper) Write(b []byte) (int, error) {
	defer s.stop()
	return s.seen.Write(b)
}

func (s *stopper) String() string { return s.seen.String() }

func TestStoppedBeforeItBegins(t *testing.T) {
	t.Parallel()
	h := prepared(t, options(t, t.TempDir()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.Run(ctx, scriptFile(t, "touch "+h.o.BuildsDir+"/x"), io.Discard, io.Discard)
	require.ErrorIs(t, err, ErrStopped)
	assert.NoFileExists(t, filepath.Join(h.Builds(), "x"))
}

func TestCacheIsSharedAsItShouldBe(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	first := options(t, work)
	one, two := prepared(t, first), prepared(t, options(t, work)) // both running
	out, code := run(t, one, "umask 077; mkdir -p /tmp/cache/group/key && echo cached > /tmp/cache/group/key/cache.zip")
	require.Zero(t, code, out)
	out, _ = run(t, two, "cat /tmp/cache/group/key/cache.zip; echo newer > /tmp/cache/group/key/new && mv /tmp/cache/group/key/new /tmp/cache/group/key/cache.zip")
	assert.Equal(t, "cached\n", out)

	protected, otherProject := options(t, work), options(t, work)
	protected.Protection = "protected"
	otherProject.ProjectID = 8
	for _, o := range []Options{protected, otherProject} {
		out, _ = run(t, prepared(t, o), "ls /tmp/cache")
		assert.Empty(t, out)
	}

	// The id may have gone to others in between; the cache follows.
	for _, h := range []*Host{one, two} {
		require.NoError(t, h.Cleanup(t.Context()))
	}
	later := options(t, work)
	later.UIDBase += 1000
	out, _ = run(t, prepared(t, later), "cat /tmp/cache/group/key/cache.zip; echo x > /tmp/cache/group/key/cache.zip && echo writable")
	assert.Equal(t, "newer\nwritable\n", out)
}

func TestUserIDs(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("an ordinary user has one id")
	}
	work := t.TempDir()
	uid := func(change func(*Options)) (int, *Host, error) {
		o := options(t, work)
		o.UIDCount = 2
		change(&o)
		h := New(o)
		if err := h.Prepare(t.Context()); err != nil {
			return 0, h, err
		}
		u, g, err := h.Owner()
		assert.Equal(t, u, g)
		return u, h, err
	}
	a1, hostA1, err := uid(func(*Options) {})
	require.NoError(t, err)
	a2, hostA2, err := uid(func(*Options) {})
	require.NoError(t, err)
	assert.Equal(t, a1, a2, "same project and protection")
	b, _, err := uid(func(o *Options) { o.Protection = "protected" })
	require.NoError(t, err)
	assert.NotEqual(t, a1, b)
	_, _, err = uid(func(o *Options) { o.ProjectID = 9 })
	require.ErrorContains(t, err, "raise uid_count")
	require.NoError(t, hostA1.Cleanup(t.Context()))
	_, _, err = uid(func(o *Options) { o.ProjectID = 9 })
	require.ErrorContains(t, err, "raise uid_count", "one job of it is still running")
	require.NoError(t, hostA2.Cleanup(t.Context()))
	c, _, err := uid(func(o *Options) { o.ProjectID = 9 })
	require.NoError(t, err)
	assert.Equal(t, a1, c)
}

func TestPrepareSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	noGit := t.TempDir()
	require.NoError(t, os.Chmod(empty, 0o755))
	require.NoError(t, os.Chmod(noGit, 0o755))
	for _, dir := range []string{empty, noGit} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "usr/bin"), 0o755))
		require.NoError(t, os.Symlink("usr/bin", filepath.Join(dir, "bin")))
	}
	copyProgram(t, "/bin/bash", noGit)
	copyProgram(t, "/bin/sh", noGit)
	broken := filepath.Join(t.TempDir(), "gitlab-runner")
	require.NoError(t, os.WriteFile(broken, []byte("#!/bin/sh\necho wrong machine >&2\nexit 1\n"), 0o755))

	tests := map[string]struct {
		change func(*Options)
		want   string
	}{
		"no runner program":     {func(o *Options) { o.Runner = "/nonexistent/gitlab-runner" }, "[host] runner"},
		"broken runner program": {func(o *Options) { o.Runner = broken }, "wrong machine"},
		"no bash":               {func(o *Options) { o.RootFS = empty }, "bash is missing on " + empty},
		"no git":                {func(o *Options) { o.RootFS = noGit }, "git is missing on " + noGit},
		"bad instance":          {func(o *Options) { o.Instance = "../x" }, `"../x"`},
		"relative work_dir":     {func(o *Options) { o.WorkDir = "x" }, `"x"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t, t.TempDir())
			tt.change(&o)
			assert.ErrorContains(t, New(o).Prepare(t.Context()), tt.want)
		})
	}
}

// copyProgram copies a program and its libraries below root.
func copyProgram(t *testing.T, program, root string) {
	t.Helper()
	files := []string{program}
	out, err := exec.CommandContext(t.Context(), "ldd", program).Output()
	require.NoError(t, err)
	for f := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(f, "/") {
			files = append(files, f)
		}
	}
	for _, f := range files {
		to := filepath.Join(root, f)
		require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to, b, 0o755))
	}
}

func TestRootFS(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, os.Chmod(root, 0o755))
	for _, d := range []string{"etc", "usr/bin", "nix/store", "home/them", "root"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	require.NoError(t, os.Symlink("usr/bin", filepath.Join(root, "bin")))
	for _, p := range []string{"/bin/bash", "/bin/sh", "/bin/ls", "/bin/cat"} {
		copyProgram(t, p, root)
	}
	require.NoError(t, os.WriteFile(filepath.Join(root, "usr/bin/git"), []byte("#!/bin/sh\necho git of the root file system\n"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0:theirs:/root:/bin/sh\n"), 0o644))
	o := options(t, t.TempDir())
	o.RootFS = root
	out, code := run(t, prepared(t, o), "git; ls -d /nix/store; ls /home /root 2>/dev/null; cat /etc/passwd")
	assert.Zero(t, code)
	assert.Contains(t, out, "git of the root file system\n/nix/store\n/home:\njob\n")
	assert.Contains(t, out, ":/home/job:/bin/bash\nroot:x:0:0:theirs:")
}

func TestCleanup(t *testing.T) {
	t.Parallel()
	h := New(options(t, t.TempDir()))
	require.NoError(t, h.Cleanup(t.Context()), "without prepare")
	require.NoError(t, h.Prepare(t.Context()))
	require.NoError(t, h.Prepare(t.Context()), "again")
	outside := filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.WriteFile(outside, nil, 0o644))
	_, code := run(t, h, "cd "+h.o.BuildsDir+" && mkdir -p a/b/c && touch a/b/c/f && ln -s "+filepath.Dir(outside)+" a/link && chmod 0 a/b/c a/b && chmod 0 a; mkdir -p ~/.x && chmod 0 ~/.x; mkfifo /tmp/fifo")
	require.Zero(t, code)
	require.NoError(t, h.Cleanup(t.Context()))
	assert.NoDirExists(t, h.base)
	assert.FileExists(t, outside)
	require.NoError(t, h.Cleanup(t.Context()), "again")
	_, err := h.Run(t.Context(), scriptFile(t, "true"), io.Discard, io.Discard)
	require.ErrorContains(t, err, "directories are gone")
}

func TestOwn(t *testing.T) {
	t.Parallel()
	h := prepared(t, options(t, t.TempDir()))
	require.NoError(t, os.MkdirAll(filepath.Join(h.Builds(), "p/sub"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(h.Builds(), "p/sub/f"), []byte("home again"), 0o600))
	require.NoError(t, h.Own())
	out, _ := run(t, h, "cat "+h.o.BuildsDir+"/p/sub/f && echo x > "+h.o.BuildsDir+"/p/sub/g && echo -own")
	assert.Equal(t, "home again-own\n", out)
}

func TestTwentyAtOnce(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	var wg sync.WaitGroup
	for i := range 20 {
		o := options(t, work)
		o.ProjectID = int64(i % 5)
		wg.Go(func() {
			h := New(o)
			if !assert.NoError(t, h.Prepare(t.Context())) {
				return
			}
			var out bytes.Buffer
			code, err := h.Run(t.Context(), scriptFile(t, generated("cd "+o.BuildsDir+"; pwd > f; cat f; ls /tmp/builds | wc -l; ls -d /proc/[0-9]* | wc -l")), &out, &out)
			assert.NoError(t, err)
			assert.Zero(t, code)
			assert.Regexp(t, "^"+o.BuildsDir+"\n1\n[1-9]\n$", out.String())
			assert.NoError(t, h.Cleanup(t.Context()))
		})
	}
	wg.Wait()
	left, err := os.ReadDir(filepath.Join(work, "jobs/0a1b2c"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// BenchmarkHostStage measures what the sandbox adds to a script: extra-ms/op
// is the difference to bash without one, in the same run.
func BenchmarkHostStage(b *testing.B) {
	h := prepared(b, options(b, b.TempDir()))
	script := scriptFile(b, generated("true"))
	var direct, boxed time.Duration
	for b.Loop() {
		_, err := script.Seek(0, io.SeekStart)
		require.NoError(b, err)
		start := time.Now()
		cmd := exec.CommandContext(b.Context(), "bash")
		cmd.Stdin = script
		require.NoError(b, cmd.Run())
		direct += time.Since(start)

		_, err = script.Seek(0, io.SeekStart)
		require.NoError(b, err)
		start = time.Now()
		_, err = h.Run(b.Context(), script, io.Discard, io.Discard)
		require.NoError(b, err)
		boxed += time.Since(start)
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / float64(b.N) }
	b.ReportMetric(ms(direct), "direct-ms/op")
	b.ReportMetric(ms(boxed-direct), "extra-ms/op")
	b.ReportMetric(0, "ns/op")
}
