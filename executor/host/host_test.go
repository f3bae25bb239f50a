package host

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
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
	tmp, err := os.MkdirTemp("", "host-nobody-") //nolint:usetesting // nobody cannot enter what t.TempDir makes
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
