package e2e_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// entry is a file of an archive as far as it has to be the same from both
// executors: all but the time.
type entry struct {
	Mode    string
	Content string // short: as it is; long: its hash and size
}

// entries lists a zip by name.
func entries(t *testing.T, archive []byte) map[string]entry {
	t.Helper()
	reader, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	require.NoError(t, err)
	list := map[string]entry{}
	for _, file := range reader.File {
		require.NotContains(t, list, file.Name, "twice in the archive")
		content, err := file.Open()
		require.NoError(t, err)
		b, err := io.ReadAll(content)
		require.NoError(t, err)
		require.NoError(t, content.Close())
		e := entry{Mode: file.Mode().String(), Content: string(b)}
		if len(b) > 200 {
			e.Content = fmt.Sprintf("%d bytes, sha256 %x", len(b), sha256.Sum256(b))
		}
		list[file.Name] = e
	}
	return list
}

// names are the sorted names of an archive's files, directories left out.
func names(list map[string]entry) []string {
	files := slices.Sorted(maps.Keys(list))
	return slices.DeleteFunc(files, func(name string) bool { return strings.HasSuffix(name, "/") })
}
