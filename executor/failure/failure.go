// Package failure tells the user's mistakes and misfortunes (build failures,
// which GitLab does not retry as runner trouble) from everything else (system
// failures). It imports nothing of the module, so every room can use it.
package failure

import (
	"errors"
	"fmt"
)

// Exit codes of build failures that are not the script's own. They are what
// `allow_failure:exit_codes` and `retry:exit_codes` see, and are chosen so that
// the usual codes of scripts (1, 2, 126, 127) do not hide them. The values up
// to 78 follow sysexits.h.
const (
	CodeQuota    = 69  // EX_UNAVAILABLE: the account's limit is below what the job asks for
	CodePlatform = 70  // EX_SOFTWARE: SageMaker failed the job (upload of the model, ClientError, ...)
	CodePolicy   = 77  // EX_NOPERM: the administrator's policy does not allow it
	CodeInvalid  = 78  // EX_CONFIG: a variable or the spec is wrong
	CodeTimeout  = 124 // as timeout(1): MaxRuntime or MaxWait was reached
	CodeStopped  = 143 // 128+SIGTERM: somebody stopped the SageMaker job
)

// Build is a failure of the user's job: GitLab shows it as a script failure
// and does not retry it as a system failure. Its text is one sentence that
// says what happened, to what, and what to do.
type Build struct {
	// Code goes to BUILD_EXIT_CODE_FILE.
	Code int
	Err  error
}

// Error returns the sentence for the job log.
func (b *Build) Error() string { return b.Err.Error() }

// Unwrap returns the cause.
func (b *Build) Unwrap() error { return b.Err }

// New returns a build failure with an exit code, formatted as by fmt.Errorf.
func New(code int, format string, a ...any) error {
	return &Build{Code: code, Err: fmt.Errorf(format, a...)}
}

// Invalid returns the build failure for a wrong variable or spec.
func Invalid(format string, a ...any) error { return New(CodeInvalid, format, a...) }

// Policy returns the build failure for something that the administrator's
// policy does not allow.
func Policy(format string, a ...any) error { return New(CodePolicy, format, a...) }

// AsBuild returns the build failure in err's chain, if there is one.
func AsBuild(err error) (*Build, bool) {
	var b *Build
	ok := errors.As(err, &b)
	return b, ok
}
