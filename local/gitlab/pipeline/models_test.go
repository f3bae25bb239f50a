package pipeline

import (
	"archive/tar"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEmptyArchive(t *testing.T) {
	t.Parallel()
	tarball := func(name string, types ...byte) string {
		path := filepath.Join(t.TempDir(), name)
		file, err := os.Create(path)
		require.NoError(t, err)
		zipped := gzip.NewWriter(file)
		w := tar.NewWriter(zipped)
		for i, kind := range types {
			require.NoError(t, w.WriteHeader(&tar.Header{Name: string(rune('a' + i)), Typeflag: kind}))
		}
		require.NoError(t, w.Close())
		require.NoError(t, zipped.Close())
		require.NoError(t, file.Close())
		return path
	}
	other := filepath.Join(t.TempDir(), "model.tar.gz")
	require.NoError(t, os.WriteFile(other, []byte("no archive"), 0o600))
	for name, c := range map[string]struct {
		path string
		want bool
	}{
		"nothing":          {tarball("model.tar.gz"), true},
		"a directory only": {tarball("model.tar.gz", tar.TypeDir), true},
		"a file":           {tarball("model.tar.gz", tar.TypeDir, tar.TypeReg), false},
		"not an archive":   {other, false},
		"another name":     {tarball("model.bin"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := emptyArchive(c.path)
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}
