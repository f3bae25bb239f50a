package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// image is an entry of the local AWS's images.json.
type image struct {
	User       string            `json:"user,omitempty"`
	Entrypoint []string          `json:"entrypoint,omitempty"`
	Env        map[string]string `json:"env,omitempty"`
	Layers     []string          `json:"layers,omitempty"`
	Remove     []string          `json:"remove,omitempty"`
	Missing    bool              `json:"missing,omitempty"`
}

func images(t *testing.T, list map[string]image) string {
	t.Helper()
	text, err := json.Marshal(list)
	require.NoError(t, err)
	return string(text)
}

func on(name string, j job) job {
	j.image = &gitlab.Image{Name: name}
	return j
}

const registry = "000000000000.dkr.ecr.us-east-1.amazonaws.com/"

var withoutBash = []string{"/usr/bin/bash", "/usr/bin/rbash", "/usr/bin/zsh", "/usr/bin/ksh", "/usr/bin/busybox"}

func TestImages(t *testing.T) {
	t.Parallel()
	layer := filepath.Join(t.TempDir(), "layer")
	entrypoint := filepath.Join(layer, "usr", "local", "bin", "entrypoint")
	require.NoError(t, os.MkdirAll(filepath.Dir(entrypoint), 0o755))
	require.NoError(t, os.WriteFile(entrypoint, []byte("#!/bin/sh\nexport FROM_ENTRYPOINT=\"$1\"\nshift\nexec \"$@\"\n"), 0o755))
	posix := filepath.Join(t.TempDir(), "posix")
	copyShell(t, filepath.Join(posix, "usr", "bin", "ash"))

	s := startStack(t, stackOptions{concurrent: 4, images: images(t, map[string]image{
		registry + "no-bash:1":    {Remove: withoutBash},
		registry + "ash:1":        {Remove: withoutBash, Layers: []string{posix}},
		registry + "non-root:1":   {User: "65534:65534"},
		registry + "no-passwd:1":  {User: "4242"},
		registry + "entrypoint:1": {Layers: []string{layer}, Entrypoint: []string{"/usr/local/bin/entrypoint", "image"}, Env: map[string]string{"FROM_IMAGE": "yes"}},
		registry + "missing:1":    {Missing: true},
	})})
	t.Run("without bash", func(t *testing.T) {
		t.Parallel()
		got := s.run(t, on(registry+"no-bash:1", job{script: lines(`printf 'ra%s\n' n`)}))
		assert.Equal(t, gitlab.StateFailed, got.State)
		assert.Equal(t, "script_failure", got.FailureReason, "a retry would not help")
		assert.Contains(t, string(got.log), "bash")
		assert.NotContains(t, string(got.log), "ran\n")
	})
	t.Run("without bash, with another shell that will do", func(t *testing.T) {
		t.Parallel()
		got := s.run(t, on(registry+"ash:1", job{
			script:    lines(`echo "it's \"quoted\""`, "echo made > made"),
			after:     lines("cat made"),
			artifacts: []gitlab.Artifact{gitlab.Archive("made")},
		}))
		assert.Equal(t, gitlab.StateSuccess, got.State)
		assert.Contains(t, output(got.log, "step_script"), "it's \"quoted\"\n")
		assert.Equal(t, []string{"made"}, names(got.archive(t)))
	})
	for name, reference := range map[string]string{"non-root": "non-root:1", "a user without a name": "no-passwd:1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.run(t, on(registry+reference, job{
				script: lines(
					`printf 'user %s\n' "$(id -u)"`, "cat README", "echo changed >> README", "mkdir -p out/deep && echo x > out/deep/x", "rm data/other.txt",
					`echo weights > "$SM_MODEL_DIR/model"`, `echo "KEY=value" >> "$GITLAB_ENV"`, `cat "$FILE"`,
				),
				after:     lines(`echo "$KEY"`, "cat out/deep/x"),
				variables: []gitlab.Variable{{Key: "FILE", Value: "content\n", File: true}},
				artifacts: []gitlab.Artifact{gitlab.Archive("out/", "README", "data/")},
			}))
			assert.Equal(t, gitlab.StateSuccess, got.State)
			assert.NotContains(t, output(got.log, "step_script"), "user 0\n")
			assert.Equal(t, []string{"README", "data/kept.txt", "out/deep/x"}, names(got.archive(t)))
		})
	}
	t.Run("entrypoint of the image, not asked for", func(t *testing.T) {
		t.Parallel()
		got := s.run(t, on(registry+"entrypoint:1", job{script: lines(`echo "[$FROM_ENTRYPOINT] [$FROM_IMAGE]"`)}))
		assert.Contains(t, output(got.log, "step_script"), "[] [yes]\n")
	})
	t.Run("entrypoint of the job", func(t *testing.T) {
		t.Parallel()
		j := on(registry+"entrypoint:1", job{script: lines(`echo "[$FROM_ENTRYPOINT]"`), after: lines(`echo "after [$FROM_ENTRYPOINT]"`)})
		j.image.Entrypoint = []string{"/usr/local/bin/entrypoint", "job"}
		got := s.run(t, j)
		assert.Contains(t, output(got.log, "step_script"), "[job]\n")
		assert.Contains(t, output(got.log, "after_script"), "after [job]\n")
	})
	t.Run("image that cannot be pulled", func(t *testing.T) {
		t.Parallel()
		got := s.run(t, on(registry+"missing:1", job{script: lines("echo never")}))
		assert.Equal(t, gitlab.StateFailed, got.State)
		assert.Contains(t, string(got.log), "pull access denied")
	})
}

// An image without CA roots: the agent brings what it needs.
func TestTLSWithoutCARoots(t *testing.T) {
	t.Parallel()
	s := startStack(t, stackOptions{tls: true, images: images(t, map[string]image{
		registry + "no-roots:1": {Remove: []string{"/etc/ssl", "/usr/share/ca-certificates", "/usr/lib/ssl"}},
	})})
	got := s.run(t, on(registry+"no-roots:1", job{
		script:    lines(`if [ -e /etc/ssl/certs ]; then echo roots; else echo none; fi`, "echo made > made"),
		artifacts: []gitlab.Artifact{gitlab.Archive("made")},
	}))
	assert.Equal(t, gitlab.StateSuccess, got.State)
	assert.Equal(t, "none\n", commandless(output(got.log, "step_script")))
	assert.Equal(t, []string{"made"}, names(got.archive(t)))
}

// copyShell gives an image bash under another name: a shell that knows $'...', as
// ash of Alpine does.
func copyShell(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	bash, err := exec.LookPath("bash")
	require.NoError(t, err)
	content, err := os.ReadFile(bash)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, content, 0o755))
}
