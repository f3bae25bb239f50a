package runner

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A Go module inside the recipe would not be embedded, and a package of it would
// be built with ours.
func TestTheWholeRecipeIsEmbedded(t *testing.T) {
	t.Parallel()
	embedded := t.TempDir()
	require.NoError(t, unpack(embedded))
	for _, dir := range []string{"packages", "stubs"} {
		require.NoError(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			require.NoError(t, err)
			if !info.IsDir() {
				assert.FileExists(t, filepath.Join(embedded, path))
				assert.Equal(t, ".txt", filepath.Ext(path))
			}
			return nil
		}))
	}
	assert.FileExists(t, filepath.Join(embedded, "build.sh"))
}

func TestBuildSaysWhatFailed(t *testing.T) {
	t.Parallel()
	var progress bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, Build(ctx, filepath.Join(t.TempDir(), "gitlab-runner"), &progress), context.Canceled)
	assert.False(t, strings.Contains(progress.String(), "unexpected module"))
}
