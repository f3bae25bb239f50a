// Package e2e_test runs jobs as a user sees them: the compiled executor under a
// real GitLab Runner, real git over HTTP, the shell scripts that the runner
// generates, and the local AWS as a process of its own. GitLab Runner's shell
// executor is the oracle: where it makes sense, the same job goes through both.
//
// What takes minutes is named TestLong... and runs with SAGEMAKER_EXECUTOR_LONG
// set (make test-long).
package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/cleanenv"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// What the tests run on, set once by TestMain.
var (
	executor string // the compiled binary
	runner   string // the real gitlab-runner
	python   string // an interpreter with boto3 and the AWS CLI; empty: none
	long     bool   // run what takes minutes
	shared   *stack // for the tests that need nothing special
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	flag.Parse()
	// Jobs mostly wait; the stacks bound how many run at once.
	if err := flag.Set("test.parallel", "12"); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, removeAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // the sandbox's users pass through
		return 1, err
	}
	if err := tools(dir); err != nil {
		return 1, err
	}
	shared, err = newStack(context.Background(), stackOptions{dir: filepath.Join(dir, "shared"), oracle: true, concurrent: 6})
	if err != nil {
		return 1, err
	}
	defer func() {
		if closeErr := shared.close(); closeErr != nil {
			code, err = 1, errors.Join(err, closeErr)
		}
		if left := processesOf(dir); len(left) > 0 {
			code, err = 1, errors.Join(err, fmt.Errorf("processes are left: %q", left))
		}
	}()
	return m.Run(), nil
}

// tools finds or builds what the tests run.
func tools(dir string) error {
	root, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	python, long = os.Getenv("SAGEMAKER_EXECUTOR_PYTHON"), os.Getenv("SAGEMAKER_EXECUTOR_LONG") != ""
	runner, err = gitlab.FindRunner(filepath.Join(root, "build", "gitlab-runner"))
	if errors.Is(err, gitlab.ErrNoRunner) {
		runner = filepath.Join(dir, "gitlab-runner")
		err = command(filepath.Join(root, "local", "gitlab", "runner", "build.sh"), runner)
	}
	if err != nil {
		return err
	}
	// The executor takes its settings from SAGEMAKER_EXECUTOR_* and refuses what
	// it does not know: these are the tests' own.
	for _, name := range []string{"SAGEMAKER_EXECUTOR_PYTHON", "SAGEMAKER_EXECUTOR_LONG", gitlab.RunnerEnv} {
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	executor = filepath.Join(dir, "sagemaker-executor")
	err = command("go", "build", "-trimpath", "-o", executor, root)
	cleanenv.Unset()
	return err
}

func command(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out.Bytes())
	}
	return nil
}

// needLong skips a test that takes minutes, unless it was asked for.
func needLong(t *testing.T) {
	t.Helper()
	if !long {
		t.Skip("takes minutes: make test-long runs it")
	}
}

// needPython skips a test where this machine's Python has no packages to offer.
// In CI that is a failure.
func needPython(t *testing.T) string {
	t.Helper()
	if python == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("SAGEMAKER_EXECUTOR_PYTHON is not set: run the tests with make test")
		}
		t.Skip("SAGEMAKER_EXECUTOR_PYTHON is not set: make test sets it")
	}
	return python
}
