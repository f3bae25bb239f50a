package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/request"
)

// RunOptions are the inputs of the run stage.
type RunOptions struct {
	Stage
	Script string // path of the script that the runner generated
	Name   string // which of the job's stages it is
}

// place is where a script runs.
type place int

const (
	onHost     place = iota // in the sandbox on the runner host
	onHostLast              // likewise, once the files are home
	inScript                // in the SageMaker container: a step of the job
	inAfter                 // in the same container, afterwards
)

// placeOf sorts the runner's stages. The runner calls the step `script`
// build_script, and promises step_script; other steps are step_<name>. Stages
// that are not known run on the host: they are the runner's own, the job's
// steps all being named step_.
func placeOf(name string) place {
	switch {
	case name == "build_script", strings.HasPrefix(name, "step_"):
		return inScript
	case name == "after_script":
		return inAfter
	case strings.HasPrefix(name, "archive_cache"), strings.HasPrefix(name, "upload_artifacts"):
		return onHostLast
	}
	return onHost
}

// Run is the stage run: it runs one of the scripts that the runner generates
// for a job, where it belongs. When ctx ends (SIGTERM: a cancel or a time-out)
// the script is stopped, what it wrote is still shown, and nothing else is
// touched: an after_script may follow, and cleanup will. The error is ErrStopped
// then.
func Run(ctx context.Context, o RunOptions) error {
	s, err := open(o.Stage)
	if err != nil {
		return err
	}
	return s.stopped(ctx, s.run(ctx, o))
}

func (s *stage) run(ctx context.Context, o RunOptions) error {
	st, found, err := loadState(s.dirs.base)
	if err != nil {
		return err
	}
	if !found {
		return errors.New("the job's state is missing: prepare has not run, or work_dir was changed meanwhile")
	}
	script, err := os.Open(o.Script)
	if err != nil {
		return fmt.Errorf("open the stage's script: %w", err)
	}
	defer script.Close()

	where := placeOf(o.Name)
	if st.Kind == request.KindHost {
		where = onHost
	}
	t := &training{stage: s, state: st}
	switch where {
	case inScript:
		return t.script(ctx, o.Name, script)
	case inAfter:
		return t.afterScript(ctx, script)
	case onHostLast:
		// The files are home whatever became of the model, and artifacts that
		// are home must not be lost: upload first, fail afterwards.
		homeErr := t.bringHome(ctx)
		if homeErr != nil && !st.Collected {
			return homeErr
		}
		return errors.Join(homeErr, s.onHost(ctx, script))
	case onHost:
	}
	return t.whileAlive(ctx, func() error { return s.onHost(ctx, script) })
}

// onHost runs a script in the sandbox on the runner host.
func (s *stage) onHost(ctx context.Context, script *os.File) error {
	code, err := s.host.Run(ctx, script, s.out, s.out)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if code != 0 {
		return failure.New(code, "")
	}
	return nil
}
