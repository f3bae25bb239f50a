package pipeline

import (
	"archive/zip"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type entry struct {
	name, content string
	mode          fs.FileMode
}

func archive(t *testing.T, entries ...entry) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "artifacts.zip"))
	require.NoError(t, err)
	defer file.Close()
	w := zip.NewWriter(file)
	for _, e := range entries {
		header := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		header.SetMode(e.mode)
		content, err := w.CreateHeader(header)
		require.NoError(t, err)
		_, err = content.Write([]byte(e.content))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return file.Name()
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "job")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a"), 0o755))
	outside := filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.WriteFile(outside, []byte("outside"), 0o600))
	// Left by an earlier run: it must be replaced, not written through.
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "a", "old")))
	require.NoError(t, os.Symlink(filepath.Dir(outside), filepath.Join(dir, "elsewhere")))

	require.NoError(t, unpack(archive(t,
		entry{"empty/", "", fs.ModeDir | 0o755},
		entry{"a/b c/ü\n", "text", 0o644},
		entry{"a/run", "#!/bin/sh", 0o755},
		entry{"a/link", "run", fs.ModeSymlink | 0o777},
		entry{"a/up", "../a/run", fs.ModeSymlink | 0o777},
		entry{"a/old", "new", 0o644},
		entry{"elsewhere/outside", "new", 0o644},
		entry{"absolute", "/nonexistent/data", fs.ModeSymlink | 0o777},
		entry{"out", "../../x", fs.ModeSymlink | 0o777},
	), dir))
	assert.DirExists(t, filepath.Join(dir, "empty"))
	for name, want := range map[string]string{"a/b c/ü\n": "text", "a/link": "#!/bin/sh", "a/up": "#!/bin/sh", "a/old": "new", "elsewhere/outside": "new"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, want, string(content))
	}
	for name, want := range map[string]string{"absolute": "/nonexistent/data", "out": "../../x"} {
		target, err := os.Readlink(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, want, target)
	}
	info, err := os.Stat(filepath.Join(dir, "a/run"))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o755), info.Mode().Perm())
	content, err := os.ReadFile(outside)
	require.NoError(t, err)
	assert.Equal(t, "outside", string(content))
}

func TestUnpackLeavesOutWhatIsHostile(t *testing.T) {
	t.Parallel()
	for name, entries := range map[string][]entry{
		"parent directory": {{"../evil", "x", 0o644}},
		"hidden parent":    {{"a/../../evil", "x", 0o644}},
		"absolute path":    {{"/tmp/evil", "x", 0o644}},
		"through a link":   {{"link", "..", fs.ModeSymlink | 0o777}, {"link/evil", "x", 0o644}},
		"device":           {{"null", "", fs.ModeDevice | fs.ModeCharDevice | 0o666}},
		"pipe":             {{"pipe", "", fs.ModeNamedPipe | 0o666}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			err := unpack(archive(t, append(entries, entry{"good", "x", 0o644})...), filepath.Join(parent, "job"))
			require.ErrorContains(t, err, "refused")
			require.ErrorContains(t, err, filepath.Base(entries[0].name))
			assert.FileExists(t, filepath.Join(parent, "job", "good"))
			left, err := os.ReadDir(parent)
			require.NoError(t, err)
			assert.Len(t, left, 1, "nothing but the job's own directory")
		})
	}
}

func TestDirectoryName(t *testing.T) {
	t.Parallel()
	for job, want := range map[string]string{
		"train": "train", "a: [b, c]": "a: [b, c]", "a/b": "a_b", "..": "_..", ".": "_.", "a\nb": "a_b",
	} {
		assert.Equal(t, want, directoryName(job))
	}
}
