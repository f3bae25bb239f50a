package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/agent"
)

func TestExitCode(t *testing.T) {
	t.Parallel()

	runner := map[string]string{"BUILD_FAILURE_EXIT_CODE": "11", "SYSTEM_FAILURE_EXIT_CODE": "12"}
	tests := map[string]struct {
		err  error
		env  map[string]string
		want int
		file string
	}{
		"success":                     {nil, runner, 0, ""},
		"build failure":               {fmt.Errorf("run: %w", failure.New(42, "")), runner, 11, "42\n"},
		"system failure":              {errors.New("s3 is gone"), runner, 12, ""},
		"usage under the runner":      {usageError{errors.New("no such flag")}, runner, 12, ""},
		"cancelled under the runner":  {context.Canceled, runner, 12, ""},
		"build failure elsewhere":     {failure.Invalid("bad"), nil, failure.CodeInvalid, ""},
		"script in the container":     {&agent.ExitError{Code: 42, Err: errors.New("exit code 42")}, nil, 42, ""},
		"usage elsewhere":             {usageError{errors.New("no such flag")}, nil, 2, ""},
		"any other failure elsewhere": {errors.New("s3 is gone"), nil, 1, ""},
		"interrupted elsewhere":       {fmt.Errorf("wait: %w", context.Canceled), nil, 130, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "exit_code")
			// The runner makes no file, and one path serves all stages.
			getenv := func(key string) string {
				if key == "BUILD_EXIT_CODE_FILE" && test.env != nil {
					return file
				}
				return test.env[key]
			}
			assert.Equal(t, test.want, exitCode(test.err, getenv))
			got, err := os.ReadFile(file)
			if test.file == "" {
				assert.ErrorIs(t, err, os.ErrNotExist)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.file, string(got))
		})
	}
}

func TestExitCodeWithoutItsFileIsASystemFailure(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"BUILD_FAILURE_EXIT_CODE": "1", "SYSTEM_FAILURE_EXIT_CODE": "2",
		"BUILD_EXIT_CODE_FILE": filepath.Join(t.TempDir(), "missing", "exit_code"),
	}
	assert.Equal(t, 2, exitCode(failure.New(42, ""), func(key string) string { return env[key] }))
}

func TestReport(t *testing.T) {
	t.Parallel()
	signalled, stop := context.WithCancel(t.Context())
	stop()
	for name, test := range map[string]struct {
		ctx  context.Context //nolint:containedctx // a test's input
		err  error
		want string
	}{
		"nothing":                      {t.Context(), nil, ""},
		"an exit code of the script's": {t.Context(), failure.New(42, ""), ""},
		"a failure":                    {t.Context(), errors.New("s3 is gone"), "sagemaker-executor: s3 is gone\n"},
		"a stage stopped by a signal":  {signalled, executor.ErrStopped, ""},
		"a request that it interrupted": {
			signalled, fmt.Errorf("write s3://b/k: %w", context.Canceled), "",
		},
		"a failure beside the signal": {signalled, errors.New("s3 is gone"), "sagemaker-executor: s3 is gone\n"},
		"two failures": {
			t.Context(), errors.Join(errors.New("s3 is gone"), errors.Join(nil, fmt.Errorf("a: %w", errors.New("b")))),
			"sagemaker-executor: s3 is gone\nsagemaker-executor: a: b\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			report(test.ctx, &out, test.err)
			assert.Equal(t, test.want, out.String())
		})
	}
}
