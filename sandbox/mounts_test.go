package sandbox

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func write(t *testing.T, name, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, []byte(content), 0o644))
}

// openDirs lets other users into what t.TempDir made.
func openDirs(t *testing.T, dir string) string {
	t.Helper()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	require.NoError(t, os.Chmod(dir, 0o777))
	return dir
}

func TestMounts(t *testing.T) {
	t.Parallel()
	dir := openDirs(t, t.TempDir())
	write(t, filepath.Join(dir, "ro/file"), "read-only")
	write(t, filepath.Join(dir, "lower1/a"), "a1")
	write(t, filepath.Join(dir, "lower1/sub/secret"), "secret")
	write(t, filepath.Join(dir, "lower1/sub/open"), "open")
	write(t, filepath.Join(dir, "lower2/a"), "a2")
	write(t, filepath.Join(dir, "lower2/b"), "b2")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "rw"), 0o777))
	require.NoError(t, os.Chmod(filepath.Join(dir, "rw"), 0o777))
	for _, d := range []string{"lower1", "lower2"} {
		require.NoError(t, os.Chmod(filepath.Join(dir, d), 0o777))
	}
	scratch := openDirs(t, t.TempDir())

	tests := map[string]struct {
		mounts []Mount
		script string
		want   string
	}{
		"bind read-only": {
			[]Mount{Bind{Source: filepath.Join(dir, "ro"), Target: "/deep/er", ReadOnly: true}},
			"cat /deep/er/file; touch /deep/er/x 2>/dev/null || echo -refused", "read-only-refused\n",
		},
		"bind a file": {
			[]Mount{Bind{Source: filepath.Join(dir, "ro/file"), Target: "/x/y/renamed", ReadOnly: true}},
			"cat /x/y/renamed", "read-only",
		},
		"bind writable": {
			[]Mount{Bind{Source: filepath.Join(dir, "rw"), Target: "/rw"}},
			"echo written > /rw/f && cat /rw/f", "written\n",
		},
		"optional bind": {
			[]Mount{Bind{Source: filepath.Join(dir, "missing"), Target: "/m", Optional: true}},
			"ls -d /m 2>/dev/null || echo none", "none\n",
		},
		"overlay": {
			[]Mount{Overlay{Target: "/o", Lower: []string{filepath.Join(dir, "lower1"), filepath.Join(dir, "lower2")}}},
			"cat /o/a /o/b; echo; rm /o/b; echo new > /o/c; ls /o | tr '\\n' ' '", "a1b2\na c sub ",
		},
		"overlay on disk": {
			[]Mount{Overlay{Target: "/o", Lower: []string{filepath.Join(dir, "lower1")}, Scratch: scratch}},
			"echo new > /o/on-disk; cat /o/on-disk", "new\n",
		},
		"overlay hides": {
			[]Mount{Overlay{
				Target: "/o", Lower: []string{filepath.Join(dir, "lower1"), filepath.Join(dir, "lower2")},
				Hide: []string{"sub/secret", "b", "no/such/thing"},
			}},
			"cd /o; find . -type f | sort | tr '\\n' ' '", "./a ./sub/open ",
		},
		"read-only overlay hides": {
			[]Mount{Overlay{Target: "/o", Lower: []string{filepath.Join(dir, "lower1")}, ReadOnly: true, Hide: []string{"sub"}}},
			"ls /o; touch /o/x 2>/dev/null || echo refused", "a\nrefused\n",
		},
		"file": {
			[]Mount{File{Target: "/a/b", Content: []byte("content\x00\n"), Mode: 0o444}},
			"od -An -c /a/b | tr -d ' '; stat -c %a /a/b", "content\\0\\n\n444\n",
		},
		"link":      {[]Mount{Symlink{Target: "/l/ink", Link: "../usr"}}, "readlink /l/ink; cd /l/ink/bin && echo ok", "../usr\nok\n"},
		"directory": {[]Mount{Directory{Target: "/d/e", Mode: 0o1777, UID: 1234, GID: 1234}}, "stat -c %a:%u:%g /d/e", "1777:1234:1234\n"},
		"file over a link that leaves": {
			[]Mount{Symlink{Target: "/t/f", Link: "/usr/bin/true"}, File{Target: "/t/f", Content: []byte("mine")}},
			"cat /t/f", "mine",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := system(t, "bash", "-c", tt.script)
			s.Mounts = append(s.Mounts, tt.mounts...)
			out, _, err := run(t, s)
			assert.Equal(t, tt.want, out, "%v", err)
		})
	}
	t.Cleanup(func() { // after the parallel subtests
		assert.FileExists(t, filepath.Join(scratch, "upper/on-disk"))
		assert.NoFileExists(t, filepath.Join(dir, "lower1/on-disk"))
		assert.FileExists(t, filepath.Join(dir, "lower2/b"))
		b, err := os.ReadFile(filepath.Join(dir, "rw/f"))
		require.NoError(t, err)
		assert.Equal(t, "written\n", string(b))
	})
}

// TestHostileImage has links in an image that lead a careless builder out of
// the new root.
func TestHostileImage(t *testing.T) {
	t.Parallel()
	outside := openDirs(t, t.TempDir())
	image := openDirs(t, t.TempDir())
	require.NoError(t, os.Symlink(outside, filepath.Join(image, "opt")))
	require.NoError(t, os.Symlink("../../../../../.."+outside, filepath.Join(image, "srv")))
	s := system(t, "bash", "-c", "cat /opt/file /srv/file")
	s.Mounts = append([]Mount{Overlay{Target: "/", Lower: []string{image}}}, s.Mounts...)
	s.Mounts = append(s.Mounts, File{Target: "/opt/file", Content: []byte("one ")}, File{Target: "/srv/sub/file", Content: []byte("two")})
	s.Args = []string{"bash", "-c", "cat /opt/file /srv/sub/file"}
	out, _, err := run(t, s)
	// The links' targets do not exist in the new root.
	require.Error(t, err)
	assert.Empty(t, out)
	left, err := os.ReadDir(outside)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestRootOverlay(t *testing.T) {
	t.Parallel()
	image := openDirs(t, t.TempDir())
	write(t, filepath.Join(image, "in-image"), "yes")
	s := system(t, "bash", "-c", "cat /in-image; touch /new 2>/dev/null; ls -d /new 2>/dev/null || echo -read-only")
	s.Mounts = append([]Mount{Overlay{Target: "/", Lower: []string{image}}}, s.Mounts...)
	s.ReadOnlyRoot = true
	out, _, err := run(t, s)
	require.NoError(t, err)
	assert.Equal(t, "yes-read-only\n", out)
}

func TestSystemOfAnUnmergedRoot(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, d := range []string{"usr/bin", "bin", "lib", "etc/ssl/private", "home/user"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	require.NoError(t, os.Symlink("usr/lib64", filepath.Join(root, "lib64")))
	write(t, filepath.Join(root, "etc/public"), "")
	write(t, filepath.Join(root, "etc/private"), "")
	require.NoError(t, os.Chmod(filepath.Join(root, "etc/private"), 0o640))
	hide, err := Sensitive(root)
	require.NoError(t, err)
	assert.Contains(t, hide, "/etc/private")
	assert.NotContains(t, hide, "/etc/public")
	scratch := t.TempDir()
	mounts, err := System(root, scratch, []string{"/etc/private"})
	require.NoError(t, err)
	assert.Equal(t, []Mount{
		Overlay{Target: "/usr", Lower: []string{root + "/usr"}, Scratch: scratch + "/usr"},
		Overlay{Target: "/bin", Lower: []string{root + "/bin"}, Scratch: scratch + "/bin"},
		Overlay{Target: "/lib", Lower: []string{root + "/lib"}, Scratch: scratch + "/lib"},
		Symlink{Target: "/lib64", Link: "usr/lib64"},
		Overlay{Target: "/etc", Lower: []string{root + "/etc"}, Scratch: scratch + "/etc", Hide: []string{"private"}},
	}, mounts)
}
