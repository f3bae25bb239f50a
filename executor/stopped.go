package executor

import (
	"context"
	"errors"
)

// ErrStopped is a stage's end by SIGTERM: a cancel, a time-out, or the runner's
// own end, which the runner reports itself. The job log says already that the
// stage was stopped, so that nobody needs to print this.
var ErrStopped = errors.New("the stage was stopped by a signal")

// stopped is what a stage returns: err, unless ctx was ended by a signal before
// the stage was. What was going on then failed because of it, so that is not
// told; what else went wrong is.
func (s *stage) stopped(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	s.log.Warn("Stopped before the end (cancel or time-out)")
	if err := withoutStop(ctx, err); err != nil {
		s.log.Warn("%v", err)
	}
	return ErrStopped
}

// withoutStop is what is left of err without the errors that ctx's end caused.
func withoutStop(ctx context.Context, err error) error {
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.Cause(ctx)) {
		return err
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var left []error
	for _, part := range joined.Unwrap() {
		left = append(left, withoutStop(ctx, part))
	}
	return errors.Join(left...)
}
