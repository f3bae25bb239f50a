package executor

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/remote"
)

// TestVerdict holds the table "which exit code" together: code 0 stands for a
// system failure.
func TestVerdict(t *testing.T) {
	t.Parallel()

	end := func(e sagemaker.Ending, reason string) error {
		return &sagemaker.EndError{Name: "gitlab-x-1-1", Ending: e, Limit: time.Hour, Reason: reason}
	}
	below := &sagemaker.QuotaError{InstanceType: "ml.p3.2xlarge", Below: true, Message: "is 0 Instances", Link: "https://quotas"}
	inUse := &sagemaker.QuotaError{InstanceType: "ml.p3.2xlarge", Message: "is 2 Instances", Link: "https://quotas"}
	capacity := &sagemaker.CapacityError{InstanceType: "ml.p3.2xlarge", Reason: "CapacityError: none"}
	tests := map[string]struct {
		err  error
		code int
		says []string
	}{
		"capacity":                   {capacity, 0, []string{"ml.p3.2xlarge", "CapacityError: none", "SAGEMAKER_INSTANCE_TYPE"}},
		"capacity and quota":         {errors.Join(below, capacity), 0, []string{"CapacityError: none", "is 0 Instances"}},
		"quota below the demand":     {below, failure.CodeQuota, []string{"https://quotas", "is 0 Instances"}},
		"quota below, several types": {errors.Join(below, below), failure.CodeQuota, []string{"https://quotas"}},
		"quota in use":               {fmt.Errorf("waited 30m0s: %w", inUse), 0, []string{"waited 30m0s", "is 2 Instances", "https://quotas"}},
		"rejected": {
			&sagemaker.RejectedError{Name: "n", Err: errors.New("Member must be less than")},
			failure.CodeInvalid,
			[]string{"Member must be less than"},
		},
		"rejected with a full stop": {
			&sagemaker.RejectedError{Name: "n", Err: errors.New("Use File or FastFile.")},
			failure.CodeInvalid,
			[]string{"Use File or FastFile; mend the variable"},
		},
		"denied": {
			&sagemaker.RejectedError{Name: "n", Denied: true, Err: errors.New("iam:PassRole")},
			failure.CodePolicy,
			[]string{"iam:PassRole", "administrator"},
		},
		"max runtime": {end(sagemaker.MaxRuntime, ""), failure.CodeTimeout, []string{"1h0m0s", "SAGEMAKER_MAX_RUNTIME"}},
		"max wait":    {end(sagemaker.MaxWait, ""), failure.CodeTimeout, []string{"1h0m0s", "SAGEMAKER_MAX_WAIT"}},
		"stopped":     {end(sagemaker.Stopped, ""), failure.CodeStopped, []string{"stopped from outside"}},
		"image":       {end(sagemaker.Client, "ClientError: pull access denied"), failure.CodePlatform, []string{"ClientError: pull access denied"}},
		"container":   {end(sagemaker.Algorithm, "AlgorithmError: , exit code: 1"), failure.CodePlatform, []string{"AlgorithmError: , exit code: 1"}},
		"killed":      {end(sagemaker.Algorithm, "AlgorithmError: , exit code: 137"), 137, []string{"AlgorithmError: , exit code: 137; the container was killed, out of memory or by the script"}},
		"sentence":    {end(sagemaker.Internal, "InternalServerError: Please try again."), 0, []string{"Please try again; retry the job"}},
		"internal":    {end(sagemaker.Internal, "InternalServerError: We encountered"), 0, []string{"InternalServerError: We encountered", "retry"}},
		"late capacity": {
			end(sagemaker.Capacity, "CapacityError: none"), 0, []string{"CapacityError: none"},
		},
		"a build failure stays one":   {failure.Policy("no"), failure.CodePolicy, []string{"no"}},
		"anything else is the system": {errors.New("s3 is gone"), 0, []string{"s3 is gone"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := verdict(tt.err)
			assertCode(t, tt.code, got)
			for _, s := range tt.says {
				assert.ErrorContains(t, got, s)
			}
		})
	}
	assert.NoError(t, verdict(nil))
	// A job that ended under a script: the reason counts, not our name for it.
	assertCode(t, failure.CodeTimeout, verdict(fmt.Errorf("%w: %w", remote.ErrGone, end(sagemaker.MaxRuntime, ""))))
}

func assertCode(t *testing.T, want int, err error) {
	t.Helper()
	require.Error(t, err)
	b, ok := failure.AsBuild(err)
	if want == 0 {
		assert.False(t, ok, "a system failure: %v", err)
		return
	}
	if assert.True(t, ok, "a build failure: %v", err) {
		assert.Equal(t, want, b.Code)
	}
}

func TestScriptVerdict(t *testing.T) {
	t.Parallel()

	tests := map[string]struct {
		result exchange.Result
		code   int
		says   string
	}{
		"exit 1":                {exchange.Result{ExitCode: 1}, 1, ""},
		"exit 255":              {exchange.Result{ExitCode: 255}, 255, ""},
		"a signal":              {exchange.Result{ExitCode: 139, Signal: "SIGSEGV"}, 139, "killed by SIGSEGV"},
		"out of memory":         {exchange.Result{ExitCode: 137, Signal: "SIGKILL", OOM: true, MaxRSS: 3 << 30}, 137, "out of memory (peak 3072 MiB on ml.m5.large)"},
		"no shell in the image": {exchange.Result{Error: "the image has no bash", UserError: true}, failure.CodeInvalid, "the image has no bash"},
		"trouble in the agent":  {exchange.Result{Error: "no space left"}, 0, "no space left"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := scriptVerdict(tt.result, "ml.m5.large")
			assertCode(t, tt.code, err)
			if tt.says == "" {
				assert.Empty(t, err.Error(), "the runner says the exit code itself")
			}
			assert.ErrorContains(t, err, tt.says)
		})
	}
	assert.NoError(t, scriptVerdict(exchange.Result{}, ""))
	assert.NoError(t, scriptVerdict(exchange.Result{OOM: true}, ""), "the script went on")
}
