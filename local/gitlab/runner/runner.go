// Package runner builds the real GitLab Runner by the recipe beside it
// (build.sh; README.md says what the recipe does). The recipe is embedded, so
// that the sagemaker-executor binary alone can build a runner.
package runner

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

//go:embed build.sh packages stubs
var recipe embed.FS

// Build writes a gitlab-runner binary to output. It needs bash and Go; the first
// time it downloads modules and takes minutes, afterwards the binary comes from
// the user's cache directory. What the recipe says goes to progress.
func Build(ctx context.Context, output string, progress io.Writer) error {
	for _, program := range []string{"bash", "go"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("build gitlab-runner: %s is not installed; install it, or name a gitlab-runner binary with --runner", program)
		}
	}
	dir, err := os.MkdirTemp("", "gitlab-runner-recipe-")
	if err != nil {
		return fmt.Errorf("build gitlab-runner: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := unpack(dir); err != nil {
		return fmt.Errorf("build gitlab-runner: %w", err)
	}
	var last bytes.Buffer
	cmd := exec.CommandContext(ctx, "bash", filepath.Join(dir, "build.sh"), output)
	cmd.Stdout, cmd.Stderr = progress, io.MultiWriter(progress, &last)
	// The whole group ends with ctx: the script starts go, which starts compilers.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("build gitlab-runner: %w: %s", err, bytes.TrimSpace(last.Bytes()[max(0, last.Len()-2000):]))
	}
	return nil
}

func unpack(dir string) error {
	return fs.WalkDir(recipe, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := recipe.ReadFile(name)
		if err != nil {
			return err
		}
		target := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o644)
	})
}
