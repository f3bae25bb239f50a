package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func openRoot(t testing.TB, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { root.Close() })
	return root
}

// describe lists a tree: type, permissions, content.
func describe(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	require.NoError(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		rel, _ := filepath.Rel(dir, name)
		info, err := d.Info()
		require.NoError(t, err)
		line := fmt.Sprintf("%s %q", info.Mode(), rel)
		switch {
		case rel == ".":
			return nil
		case info.Mode().IsRegular():
			b, err := os.ReadFile(name)
			require.NoError(t, err)
			line += fmt.Sprintf(" %q %d", b, info.ModTime().UnixNano())
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(name)
			line = "link " + rel + " " + target
		}
		out = append(out, line)
		return nil
	}))
	return out
}

func TestATreeComesBackAsItWas(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	write := func(name string, mode fs.FileMode, content string) {
		file := filepath.Join(from, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		require.NoError(t, os.Chmod(file, mode))
	}
	write("plain", 0o644, "x")
	write("empty", 0o600, "")
	write("run.sh", 0o755, "#!/bin/sh\n")
	write("with blanks/and ünïcode 名前", 0o640, "y")
	write("new\nline", 0o644, "z")
	write("bytes\xff\xfe", 0o644, "not UTF-8")
	write(strings.Repeat("long/", 60)+"name", 0o644, "deep")
	write(".git", 0o644, "gitdir: elsewhere\n")
	write("read-only/file", 0o444, "r")
	require.NoError(t, os.Mkdir(filepath.Join(from, "empty dir"), 0o750))
	require.NoError(t, os.Symlink("plain", filepath.Join(from, "link")))
	require.NoError(t, os.Symlink("missing", filepath.Join(from, "dangling")))
	require.NoError(t, os.Symlink("../plain", filepath.Join(from, "with blanks/up")))
	require.NoError(t, os.Symlink("/nowhere/at/all", filepath.Join(from, "absolute")))
	require.NoError(t, os.Symlink("../../..", filepath.Join(from, "above")))
	require.NoError(t, os.Symlink("/", filepath.Join(from, "root")))
	require.NoError(t, os.Symlink(strings.Repeat("long/", 60), filepath.Join(from, "long link")))
	require.NoError(t, os.Chmod(filepath.Join(from, "read-only"), 0o555))
	t.Cleanup(func() {
		for _, dir := range []string{from, to} {
			_ = os.Chmod(filepath.Join(dir, "read-only"), 0o755)
		}
	})

	var packed bytes.Buffer
	warn := func(s string) { assert.Fail(t, s) }
	stats, err := Pack(t.Context(), &packed, warn, Tree{Name: "project", Root: openRoot(t, from)})
	require.NoError(t, err)
	got, err := Unpack(t.Context(), &packed, Options{Targets: map[string]*os.Root{"project": openRoot(t, to)}})
	require.NoError(t, err)
	assert.Equal(t, stats, got)
	assert.Equal(t, describe(t, from), describe(t, to))
}

func TestPackLeavesOutWhatCannotTravel(t *testing.T) {
	t.Parallel()
	from := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(from, "socket"))
	require.NoError(t, err)
	defer listener.Close()
	require.NoError(t, syscall.Mkfifo(filepath.Join(from, "fifo"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(from, "file"), []byte("x"), 0o600))
	require.NoError(t, os.Chmod(filepath.Join(from, "file"), 0o600|fs.ModeSetuid))

	var packed bytes.Buffer
	var warnings []string
	_, err = Pack(t.Context(), &packed, func(s string) { warnings = append(warnings, s) },
		Tree{Name: "project", Root: openRoot(t, from)})
	require.NoError(t, err)
	require.Len(t, warnings, 2)
	for i, name := range []string{"fifo", "socket"} {
		assert.Contains(t, warnings[i], `"`+name+`" is left out`)
	}
	to := t.TempDir()
	_, err = Unpack(t.Context(), &packed, Options{Targets: map[string]*os.Root{"project": openRoot(t, to)}})
	require.NoError(t, err)
	info, err := os.Stat(filepath.Join(to, "file"))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode())
}

func TestPackOnlyTheNamesGiven(t *testing.T) {
	t.Parallel()
	from := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(from, "a"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(from, "b"), nil, 0o600))
	var packed bytes.Buffer
	stats, err := Pack(t.Context(), &packed, func(string) {},
		Tree{Name: "project", Root: openRoot(t, from), Files: slices.Values([]string{"b", "vanished"})})
	require.NoError(t, err)
	assert.Equal(t, 1, stats.Files)
}

func TestSparseFilesStaySparse(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	const size = 256 << 20
	f, err := os.Create(filepath.Join(from, "sparse"))
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("end"), size)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(2*size))
	require.NoError(t, f.Close())

	r, w := io.Pipe()
	go func() {
		_, err := Pack(t.Context(), w, func(string) {}, Tree{Name: "project", Root: openRoot(t, from)})
		w.CloseWithError(err)
	}()
	_, err = Unpack(t.Context(), r, Options{Targets: map[string]*os.Root{"project": openRoot(t, to)}})
	require.NoError(t, err)
	var s unix.Stat_t
	require.NoError(t, unix.Stat(filepath.Join(to, "sparse"), &s))
	assert.EqualValues(t, 2*size, s.Size)
	assert.Less(t, s.Blocks*512, int64(1<<20))
	got, err := os.Open(filepath.Join(to, "sparse"))
	require.NoError(t, err)
	defer got.Close()
	b := make([]byte, 3)
	_, err = got.ReadAt(b, size)
	require.NoError(t, err)
	assert.Equal(t, "end", string(b))
}

// entry of a hand-made archive.
type entry struct {
	name, body, link string
	kind             byte
	mode             int64
}

func handMade(t testing.TB, entries ...entry) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	require.NoError(t, err)
	w := tar.NewWriter(z)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		require.NoError(t, w.WriteHeader(&tar.Header{
			Name: e.name, Typeflag: e.kind, Linkname: e.link, Size: int64(len(e.body)), Mode: e.mode | 0o644,
		}))
		_, err := io.WriteString(w, e.body)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	return &b
}

func TestHostileArchivesAreRefused(t *testing.T) {
	t.Parallel()
	link := func(name, target string) entry { return entry{name: name, link: target, kind: tar.TypeSymlink} }
	for name, entries := range map[string][]entry{
		"absolute name":             {{name: "/etc/x"}},
		"parent":                    {{name: "project/../x"}},
		"parent within":             {{name: "project/a/../b"}},
		"another tree":              {{name: "other/x"}},
		"the tree itself as a file": {{name: "project"}},
		"dot":                       {{name: "project/./x"}},
		"empty element":             {{name: "project//x"}},
		"through an absolute link":  {link("project/x", "/etc"), {name: "project/x/y"}},
		"through a relative link":   {link("project/a/x", "../.."), {name: "project/a/x/y"}},
		"through a link within":     {{name: "project/d/x"}, link("project/l", "d"), {name: "project/l/y"}},
		"through two links":         {link("project/1", "/"), link("project/2", "1"), {name: "project/2/etc/y"}},
		"a directory for a link":    {link("project/x", "/"), {name: "project/x/", kind: tar.TypeDir}},
		"a link through a link":     {link("project/x", "/"), link("project/x/y", "/")},
		"a link for a directory":    {{name: "project/x/y"}, link("project/x", "/")},
		"a file for a directory":    {{name: "project/x/", kind: tar.TypeDir}, {name: "project/x"}},
		"hard link through a link":  {link("project/x", "/"), {name: "project/y", link: "project/x/etc/passwd", kind: tar.TypeLink}},
		"link with no target":       {link("project/x", "")},
		"hard link":                 {{name: "project/x", link: "project/y", kind: tar.TypeLink}},
		"device":                    {{name: "project/x", kind: tar.TypeBlock}},
		"character device":          {{name: "project/x", kind: tar.TypeChar}},
		"fifo":                      {{name: "project/x", kind: tar.TypeFifo}},
		"too many files":            {{name: "project/1"}, {name: "project/2"}, {name: "project/3"}, {name: "project/4"}},
		"too many bytes":            {{name: "project/1", body: strings.Repeat("x", 600)}, {name: "project/2", body: strings.Repeat("x", 600)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outside := t.TempDir()
			dir := filepath.Join(outside, "project")
			require.NoError(t, os.Mkdir(dir, 0o755))
			_, err := Unpack(t.Context(), handMade(t, entries...), Options{
				Targets:  map[string]*os.Root{"project": openRoot(t, dir)},
				MaxFiles: 3, MaxBytes: 1000,
			})
			require.ErrorIs(t, err, ErrRefused)
			assert.ErrorContains(t, err, fmt.Sprintf("unpack %q", entries[len(entries)-1].name), "the entry is named")
			left, err := os.ReadDir(outside)
			require.NoError(t, err)
			assert.Len(t, left, 1, "nothing is written outside")
		})
	}
}

func TestUnpackDoesNotWriteThroughLinks(t *testing.T) {
	t.Parallel()
	outside, dir := t.TempDir(), t.TempDir()
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "d")))
	require.NoError(t, os.Symlink(filepath.Join(outside, "f"), filepath.Join(dir, "f")))
	_, err := Unpack(t.Context(), handMade(t, entry{name: "project/d/x", body: "x"}, entry{name: "project/f", body: "y", mode: 0o6000}),
		Options{Targets: map[string]*os.Root{"project": openRoot(t, dir)}})
	require.NoError(t, err)
	left, err := os.ReadDir(outside)
	require.NoError(t, err)
	assert.Empty(t, left)
	info, err := os.Lstat(filepath.Join(dir, "f"))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o644), info.Mode(), "setuid bits are dropped")
}

// The links of one archive lead the next nowhere.
func TestUnpackOverTheLinksOfAnEarlierArchive(t *testing.T) {
	t.Parallel()
	outside, dir := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "kept"), []byte("kept"), 0o644))
	before := describe(t, outside)
	targets := map[string]*os.Root{"project": openRoot(t, dir)}
	link := func(name, target string) entry { return entry{name: name, link: target, kind: tar.TypeSymlink} }
	_, err := Unpack(t.Context(), handMade(t, link("project/d", outside), link("project/e", outside),
		link("project/f", filepath.Join(outside, "kept")), link("project/l", outside)), Options{Targets: targets})
	require.NoError(t, err)
	_, err = Unpack(t.Context(), handMade(t, entry{name: "project/d/kept", body: "x", mode: 0o777},
		entry{name: "project/e/", kind: tar.TypeDir, mode: 0o777}, entry{name: "project/f", body: "y", mode: 0o777},
		link("project/l", "/elsewhere")), Options{Targets: targets})
	require.NoError(t, err)
	assert.Equal(t, before, describe(t, outside), "content, modes, times")
	for name, want := range map[string]fs.FileMode{"d": fs.ModeDir, "e": fs.ModeDir, "f": 0, "l": fs.ModeSymlink} {
		info, err := os.Lstat(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, want, info.Mode().Type(), name)
	}
}

func TestUnpackReplacesWhatIsOfAnotherKind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "was dir/sub"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "was file"), nil, 0o644))
	_, err := Unpack(t.Context(), handMade(t,
		entry{name: "project/was dir", body: "x"}, entry{name: "project/was file/x", body: "y"},
		entry{name: "project/twice", body: "y"}, entry{name: "project/twice", body: "z"},
	), Options{Targets: map[string]*os.Root{"project": openRoot(t, dir)}})
	require.NoError(t, err)
	for name, want := range map[string]string{"was dir": "x", "was file/x": "y", "twice": "z"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, want, string(b))
	}
}

func TestUnpackGivesFilesToTheirOwner(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	_, err := Unpack(t.Context(), handMade(t,
		entry{name: "project/made/on/the/way"}, entry{name: "project/link", link: "made", kind: tar.TypeSymlink},
	), Options{Targets: map[string]*os.Root{"project": openRoot(t, dir)}, UID: 12345, GID: 23456})
	require.NoError(t, err)
	for _, name := range []string{"made", "made/on/the/way", "link"} {
		var s unix.Stat_t
		require.NoError(t, unix.Lstat(filepath.Join(dir, name), &s))
		assert.Equal(t, [2]uint32{12345, 23456}, [2]uint32{s.Uid, s.Gid}, name)
	}
}

func TestAnArchiveOfNothing(t *testing.T) {
	t.Parallel()
	stats, err := Unpack(t.Context(), handMade(t), Options{Targets: map[string]*os.Root{"project": openRoot(t, t.TempDir())}})
	require.NoError(t, err)
	assert.Zero(t, stats)
}

func TestADamagedArchiveIsAnError(t *testing.T) {
	t.Parallel()
	whole := handMade(t, entry{name: "project/x", body: strings.Repeat("x", 1000)}).Bytes()
	for name, b := range map[string][]byte{"empty": {}, "rubbish": []byte("rubbish"), "cut": whole[:len(whole)-9]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Unpack(t.Context(), bytes.NewReader(b), Options{Targets: map[string]*os.Root{"project": openRoot(t, t.TempDir())}})
			require.Error(t, err)
		})
	}
}

func FuzzUnpack(f *testing.F) {
	var plain bytes.Buffer
	z, err := zstd.NewReader(handMade(f, entry{name: "project/d/x", body: "x"}, entry{name: "project/l", link: "d", kind: tar.TypeSymlink}))
	require.NoError(f, err)
	_, err = io.Copy(&plain, z)
	require.NoError(f, err)
	f.Add(plain.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		outside := t.TempDir()
		dir := filepath.Join(outside, "a", "project")
		require.NoError(t, os.MkdirAll(dir, 0o755))
		_, err := unpackTar(t.Context(), bytes.NewReader(b), Options{
			Targets: map[string]*os.Root{"project": openRoot(t, dir)}, MaxBytes: 1 << 20, MaxFiles: 100,
		})
		_ = err // any is fine, so long as nothing is outside
		seen := 0
		require.NoError(t, filepath.WalkDir(outside, func(name string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrPermission) {
				return nil
			}
			require.NoError(t, err)
			if !strings.HasPrefix(name, dir+"/") {
				seen++
				return nil
			}
			require.Zero(t, d.Type()&^(fs.ModeDir|fs.ModeSymlink))
			return nil
		}))
		require.Equal(t, 3, seen, "nothing beside the project")
	})
}
