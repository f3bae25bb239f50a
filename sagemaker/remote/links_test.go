package remote_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/remote"
)

// A link goes to the container and comes home, wherever it points.
func TestLinksTravel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.job.Cache = []exchange.Pattern{{Paths: []string{".venv/", "current/model", "inside"}}}
	w.write("releases/1/model", "of a dependency")
	for link, target := range map[string]string{
		".venv/bin/python3": "/usr/bin/python3", ".venv/lib64": "lib", "away": "/nowhere/at/all", "above": "../../..",
		"inside": filepath.Join(w.job.ProjectDir, "releases"), "current": "releases/1",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(w.project, link)), 0o755))
		require.NoError(t, os.Symlink(target, filepath.Join(w.project, link)))
	}
	r := w.published(remote.Options{})
	w.start("")
	result, err := r.Run(t.Context(), script(`
set -e
[ "$(readlink away)" = /nowhere/at/all ]; [ "$(readlink above)" = ../../.. ]; [ -x .venv/bin/python3 ]
ln -s /nowhere/else .venv/bin/python; rm .venv/lib64; ln -sfn releases/2 current
mkdir releases/2; echo new > releases/2/model`), io.Discard)
	require.NoError(t, err)
	require.Zero(t, result.ExitCode)
	require.NoError(t, r.Finish(t.Context()))
	s, err := r.Collect(t.Context(), w.root(w.project), w.root(w.tmp))
	require.NoError(t, err)
	assert.Empty(t, s.Warnings)
	for link, want := range map[string]string{
		".venv/bin/python3": "/usr/bin/python3", ".venv/bin/python": "/nowhere/else", "current": "releases/2",
		"inside": filepath.Join(w.job.ProjectDir, "releases"),
	} {
		target, err := os.Readlink(filepath.Join(w.project, link))
		require.NoError(t, err)
		assert.Equal(t, want, target)
	}
	assert.Equal(t, "new\n", w.read("current/model"), "what is behind a link within the project comes with it")
	assert.Equal(t, "of a dependency", w.read("releases/1/model"), "which no pattern matches")
	assert.NoFileExists(t, filepath.Join(w.project, ".venv/lib64"))
	assert.Equal(t, 1, s.Deleted)
}

// Nothing is written, deleted or read through a link that either side has made.
func TestLinksLeadNowhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	w.write("data/x", "of the host")
	w.write("kept/y", "of the host")
	require.NoError(t, os.Symlink(outside, filepath.Join(w.project, "host")))
	require.NoError(t, os.Symlink(secret, filepath.Join(w.project, "file")))
	w.job.Artifacts = []exchange.Pattern{{Paths: []string{"host/", "host/secret", "file", "data/x", "data", "kept"}}}
	r := w.published(remote.Options{})
	w.start("")
	result, err := r.Run(t.Context(), script(`
rm host file; mkdir host; echo forged > host/secret; echo forged > file; chmod 777 host/secret file host
rm -r data; ln -s '`+outside+`' data; rm -r kept; ln -s '`+outside+`' kept`), io.Discard)
	require.NoError(t, err)
	require.Zero(t, result.ExitCode)
	require.NoError(t, r.Finish(t.Context()))
	s, err := r.Collect(t.Context(), w.root(w.project), w.root(w.tmp))
	require.NoError(t, err)

	require.Len(t, s.Warnings, 1)
	assert.Contains(t, s.Warnings[0], `"data" is left out`)
	content, err := os.ReadFile(secret)
	require.NoError(t, err)
	assert.Equal(t, "secret", string(content))
	info, err := os.Stat(secret)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	assert.Equal(t, "forged\n", w.read("host/secret"), "in place of the link")
	assert.Equal(t, "forged\n", w.read("file"))
	assert.NoFileExists(t, filepath.Join(w.project, "data"), "it is no directory in the container")
	target, err := os.Readlink(filepath.Join(w.project, "kept"))
	require.NoError(t, err)
	assert.Equal(t, outside, target)
}
