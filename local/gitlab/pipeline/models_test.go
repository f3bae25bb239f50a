package pipeline

import (
	"archive/tar"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws"
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

// A link that came with the artifacts does not say where a model is written.
func TestAModelIsNotWrittenThroughALink(t *testing.T) {
	t.Parallel()
	server, err := aws.Start(t.Context(), aws.Options{Listen: "127.0.0.1:0", Data: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	e := &environment{aws: server}
	require.NoError(t, e.createBucket(t.Context()))
	_, err = e.s3().PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: awssdk.String(bucket), Key: awssdk.String("out/model.tar.gz"), Body: strings.NewReader("model"),
	})
	require.NoError(t, err)
	outside, dir := filepath.Join(t.TempDir(), "outside"), t.TempDir()
	require.NoError(t, os.WriteFile(outside, []byte("outside"), 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "model.tar.gz")))

	files, err := e.download(t.Context(), bucket, "out/", dir)
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, "model.tar.gz")}, files)
	for file, want := range map[string]string{outside: "outside", files[0]: "model"} {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, want, string(content))
	}
}
