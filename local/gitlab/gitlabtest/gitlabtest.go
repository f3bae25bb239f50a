// Package gitlabtest helps tests that run jobs with a real GitLab Runner.
package gitlabtest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// Runner is the gitlab-runner binary: from SAGEMAKER_EXECUTOR_RUNNER, from
// build/ in the repository, or from the PATH. Without one the test fails: what
// needs a runner must not pass by being skipped.
func Runner(t testing.TB) string {
	t.Helper()
	binary, err := gitlab.FindRunner(filepath.Join(repositoryRoot(t), "build", "gitlab-runner"))
	require.NoError(t, err, "make build/gitlab-runner builds one")
	return binary
}

func repositoryRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("the test does not run inside the module")
	return ""
}

// Coordinator is a coordinator that ends with the test.
func Coordinator(t testing.TB, options gitlab.Options) *gitlab.Coordinator {
	t.Helper()
	if options.Dir == "" {
		options.Dir = t.TempDir()
	}
	coordinator, err := gitlab.New(options)
	require.NoError(t, err)
	t.Cleanup(func() { _ = coordinator.Close() })
	return coordinator
}

// StartRunner starts a runner that ends with the test. Binary and Dir may be
// left empty. The runner's log is shown when the test fails.
func StartRunner(t testing.TB, options gitlab.RunnerOptions) *gitlab.RunnerProcess {
	t.Helper()
	if options.Binary == "" {
		options.Binary = Runner(t)
	}
	if options.Dir == "" {
		options.Dir = t.TempDir()
	}
	runner, err := gitlab.StartRunner(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := runner.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the runner's log:\n%s", runner.Log())
		}
	})
	return runner
}

// Repository makes a git repository with the files (path to content) in one
// commit on the branch main. A path that ends in "*" is executable. It returns
// the directory and the commit.
func Repository(t testing.TB, files map[string]string) (dir, sha string) {
	t.Helper()
	dir = t.TempDir()
	Git(t, dir, "init", "--quiet", "--initial-branch=main")
	return dir, Commit(t, dir, files)
}

// Commit writes the files into the repository's work tree and commits all.
func Commit(t testing.TB, dir string, files map[string]string) (sha string) {
	t.Helper()
	for name, content := range files {
		mode := fs.FileMode(0o644)
		if strings.HasSuffix(name, "*") {
			name, mode = strings.TrimSuffix(name, "*"), 0o755
		}
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), mode))
	}
	Git(t, dir, "add", "--all")
	Git(t, dir, "commit", "--quiet", "--allow-empty", "--message=Add files")
	return Git(t, dir, "rev-parse", "HEAD")
}

// Git runs git in dir, with nobody's settings, and returns what it prints.
func Git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.com",
		"GIT_COMMITTER_NAME=Test", "GIT_COMMITTER_EMAIL=test@example.com",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=protocol.file.allow", "GIT_CONFIG_VALUE_0=always",
	)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "git %s: %s", strings.Join(args, " "), out)
	return strings.TrimSpace(string(out))
}
