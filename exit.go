package main

import (
	"context"
	"errors"
	"os"
	"strconv"

	"gitlab.com/gitlab-org/gitlab-runner/executors/custom/api"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/agent"
)

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

const (
	exitFailed = 1
	exitUsage  = 2
)

// exitCode is the one table from errors to exit codes.
//
//	error             under GitLab Runner                    elsewhere
//	none              0                                      0
//	*failure.Build    $BUILD_FAILURE_EXIT_CODE, and its own   its own code
//	                  code in $BUILD_EXIT_CODE_FILE
//	*agent.ExitError  -                                      the script's own
//	usageError        $SYSTEM_FAILURE_EXIT_CODE              2
//	any other         $SYSTEM_FAILURE_EXIT_CODE              1
//
// GitLab Runner takes any other code for an unknown failure
// (https://docs.gitlab.com/runner/executors/custom/#build-failure).
func exitCode(err error, getenv func(string) string) int {
	var build *failure.Build
	var usage usageError
	var script *agent.ExitError
	system := number(getenv(api.SystemFailureExitCodeVariable))
	switch {
	case err == nil:
		return 0
	case errors.As(err, &build):
		code := number(getenv(api.BuildFailureExitCodeVariable))
		if code == 0 {
			return build.Code
		}
		// A stale number of an earlier stage must not stand for this failure.
		if writeExitCode(getenv(api.BuildCodeFileVariable), build.Code) != nil {
			return system
		}
		return code
	case system != 0:
		return system
	case errors.As(err, &script):
		return script.Code
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, context.Canceled):
		return 130
	default:
		return exitFailed
	}
}

func writeExitCode(path string, code int) error {
	if path == "" {
		return nil
	}
	return os.WriteFile(path, []byte(strconv.Itoa(code)+"\n"), 0o600)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}
