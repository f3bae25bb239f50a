package executor

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/internal/lazyregexp"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

// verdict turns what AWS's side says into what GitLab is told: a build failure
// where repeating the job cannot help, and otherwise, unchanged, a system
// failure.
func verdict(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := failure.AsBuild(err); ok {
		return err
	}
	var capacity *sagemaker.CapacityError
	var quota *sagemaker.QuotaError
	var rejected *sagemaker.RejectedError
	var end *sagemaker.EndError
	switch {
	case errors.As(err, &capacity):
		err = unended{err}
		return fmt.Errorf("%w; name more instance types in SAGEMAKER_INSTANCE_TYPE, or retry the job later (retry: when: runner_system_failure)", err)
	case errors.As(err, &quota) && quota.Below:
		return &failure.Build{Code: failure.CodeQuota, Err: err}
	case errors.As(err, &quota):
		err = unended{err}
		return fmt.Errorf("%w; retry the job later (retry: when: runner_system_failure), or have the quota raised at %s", err, quota.Link)
	case errors.As(err, &rejected) && rejected.Denied:
		return &failure.Build{Code: failure.CodePolicy, Err: fmt.Errorf("%w; the administrator must allow it for the runner's role", unended{err})}
	case errors.As(err, &rejected):
		return failure.Invalid("%w; mend the variable or the field of the spec that it names", unended{err})
	case errors.As(err, &end):
		return endVerdict(end, err)
	}
	return err
}

func endVerdict(end *sagemaker.EndError, err error) error {
	switch end.Ending {
	case sagemaker.MaxRuntime:
		return failure.New(failure.CodeTimeout, "%w; make the script faster, or raise SAGEMAKER_MAX_RUNTIME and the job's timeout", err)
	case sagemaker.MaxWait:
		return failure.New(failure.CodeTimeout, "%w; raise SAGEMAKER_MAX_WAIT, or do without SAGEMAKER_SPOT", err)
	case sagemaker.Stopped:
		return failure.New(failure.CodeStopped, "%w, by somebody with access to the AWS account; retry the job", err)
	case sagemaker.Algorithm:
		if code := containerExit(end.Reason); code == sigkill {
			return failure.New(code, "%w; the container was killed, out of memory or by the script: use an instance type with more memory, or look for what kills it", unended{err})
		}
		return failure.New(failure.CodePlatform, "%w", err)
	case sagemaker.Client:
		return failure.New(failure.CodePlatform, "%w", err)
	case sagemaker.Completed, sagemaker.Capacity, sagemaker.Internal:
	}
	return fmt.Errorf("%w; retry the job", unended{err})
}

// sigkill is the exit code of a container that was killed: 128 + SIGKILL.
const sigkill = 137

var exitCode = lazyregexp.New(`exit code: (\d+)\s*$`)

// containerExit is the container's exit code in the FailureReason of an
// AlgorithmError ("AlgorithmError: , exit code: 137"), or 0.
func containerExit(reason string) int {
	m := exitCode().FindStringSubmatch(reason)
	if m == nil {
		return 0
	}
	code, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return code
}

// unended is an error after which the sentence goes on: AWS's own sentences end
// with a full stop.
type unended struct{ error }

func (e unended) Error() string { return strings.TrimRight(e.error.Error(), ". \n") }

func (e unended) Unwrap() error { return e.error }

// scriptVerdict turns a script's result into what GitLab is told. A plain exit
// code needs no sentence: the runner prints it.
func scriptVerdict(r exchange.Result, instanceType string) error {
	switch {
	case r.Error != "" && r.UserError:
		return failure.Invalid("%s", r.Error)
	case r.Error != "":
		return fmt.Errorf("the script could not be run in the container: %s", r.Error)
	case r.OOM && r.ExitCode != 0:
		return failure.New(r.ExitCode, "the script ran out of memory (peak %s on %s); use less, or an instance type with more", megabytes(r.MaxRSS), instanceType)
	case r.Signal != "":
		return failure.New(r.ExitCode, "the script was killed by %s", r.Signal)
	case r.ExitCode != 0:
		return failure.New(r.ExitCode, "")
	}
	return nil
}

func megabytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }
