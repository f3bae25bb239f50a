// Package host runs the runner's own scripts (git, cache, artifacts) on the
// runner host, byte for byte, shut in a sandbox. They hold text that users
// control, so they see the system read-only, their own job's directories, the
// gitlab-runner program, and nothing else: not the runner's configuration and
// token, not other jobs, not this process's environment, not AWS credentials.
//
// When the executor runs as root, scripts run as a user of the job's project
// and protection: running jobs of the same project and protection share a user
// id, since they share a cache, and no other jobs do. An ordinary user has only
// its own id to give; the namespaces alone hold the scripts then.
package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sandbox"
)

// Options say whose job it is and where things are. The first four come from
// the trusted job alone.
type Options struct {
	Instance   string // short hash of the GitLab server
	ProjectID  int64
	Protection string // protected or open
	JobID      int64

	WorkDir   string // ours, on the runner host
	BuildsDir string // of the job, as scripts see it
	CacheDir  string // as scripts see it

	// Runner is the gitlab-runner program; empty: the one on PATH, beside this
	// program, or that started it.
	Runner string
	// RunnerUnused: no script of the job calls it, so it may be missing.
	RunnerUnused bool
	// RootFS is a directory tree to show instead of the runner host's system.
	RootFS string
	// UIDBase and UIDCount are the user ids for scripts when we are root.
	UIDBase, UIDCount int
	// StopGrace is how long a stopped script has before it is killed.
	StopGrace time.Duration
	// Hide are further paths in the system directories that scripts must not
	// see, such as the executor's settings file.
	Hide []string
	// Env is added to the environment of scripts.
	Env []string
}

// Host is the sandbox of one job.
type Host struct {
	o    Options
	base string // the job's directory on the runner host
}

// New makes the Host of a job. Nothing is touched yet.
func New(o Options) *Host {
	return &Host{o: o, base: filepath.Join(o.WorkDir, "jobs", o.Instance, strconv.FormatInt(o.JobID, 10))}
}

// Builds is the real path of the builds directory.
func (h *Host) Builds() string { return filepath.Join(h.base, "builds") }

// cache is the real path of the local cache.
func (h *Host) cache() string {
	return filepath.Join(h.o.WorkDir, "cache", h.o.Instance, strconv.FormatInt(h.o.ProjectID, 10), h.o.Protection)
}

// outputMargin is what the output of an ended script may take to be read.
const outputMargin = 10 * time.Second

// ErrStopped is what errors.Is finds when a script ended because the context
// of Run did.
var ErrStopped = errors.New("script stopped")

// Run runs a script with bash. It returns the script's exit code, 128+S if
// signal S killed it. An error means that the script could not be run or, with
// [ErrStopped], that ctx ended: then all of the script's processes get SIGTERM
// and, StopGrace later, SIGKILL. Nothing of the script is running when Run
// returns.
func (h *Host) Run(ctx context.Context, script *os.File, stdout, stderr io.Writer) (int, error) {
	return h.run(ctx, []string{"bash"}, script, stdout, stderr)
}

func (h *Host) run(ctx context.Context, args []string, stdin *os.File, stdout, stderr io.Writer) (int, error) {
	spec, err := h.spec(args)
	if err != nil {
		return 0, err
	}
	cmd, err := sandbox.Command(ctx, spec)
	if err != nil {
		return 0, err
	}
	if stdin != nil {
		cmd.Stdin = stdin
	}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Cancel = func() error {
		time.AfterFunc(h.o.StopGrace, func() { _ = cmd.Process.Kill() })
		return cmd.Signal(syscall.SIGTERM)
	}
	cmd.WaitDelay = h.o.StopGrace + outputMargin
	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			return 128 + int(unix.SIGKILL), fmt.Errorf("%w as it began: %w", ErrStopped, context.Cause(ctx))
		}
		return 0, err
	}
	err = cmd.Wait()
	code := cmd.ProcessState.ExitCode()
	if code < 0 {
		code = 128 + int(unix.SIGKILL)
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return code, fmt.Errorf("%w: %w", ErrStopped, context.Cause(ctx))
	case errors.As(err, &exit) && !exit.Exited():
		return code, fmt.Errorf("the sandbox of the script was killed from outside (%w): look for the out-of-memory killer in the kernel's log of the runner host", exit)
	case errors.As(err, &exit):
		return code, nil
	case err != nil:
		return code, fmt.Errorf("script's output: %w", err)
	}
	return code, nil
}
