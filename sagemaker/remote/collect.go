package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange/archive"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange/match"
)

// Summary says what came home.
type Summary struct {
	Files    int
	Bytes    int64
	Deleted  int      // of the host's files, gone in the container
	Warnings []string // of the agent: what could not be sent
}

// Finish tells the agent to send the outputs and leave, and returns when it has
// acknowledged. It may be called again. A script that still runs is stopped: its
// Run was killed.
func (r *Remote) Finish(ctx context.Context) (err error) {
	work, stop := survive(ctx)
	defer stop()
	defer func() { err = because(work, err) }()
	n, last, err := r.lastStep(work)
	if err != nil {
		return err
	}
	if err := r.stopAbandoned(work, n, last); err != nil {
		return err
	}
	if last.Kind != exchange.StepFinish {
		err := exchange.PutJSONIfAbsent(work, r.store, r.keys.Step(n+1), exchange.Step{Kind: exchange.StepFinish})
		if err != nil {
			return fmt.Errorf("tell the agent to finish: %w", err)
		}
	}
	return r.await(ctx, "acknowledge the finish", r.Finished)
}

// Finished says whether the agent has acknowledged the finish, without waiting:
// from then on SageMaker is uploading the model, perhaps for minutes.
func (r *Remote) Finished(ctx context.Context) (bool, error) {
	return r.exists(ctx, r.keys.FinishAck())
}

// Collected says whether a Collect, of any process, has completed.
func (r *Remote) Collected(ctx context.Context) (bool, error) {
	return r.exists(ctx, r.keys.Collected())
}

// Collect waits for the outputs and brings them home into project and
// tmp. Afterwards, the project is the container's as the
// job's patterns see it: what they match on the host alone is deleted, but only
// when all has arrived, so a Collect that fails loses nothing and may be
// repeated. Whatever the container says, only what is below the two directories
// is written or deleted. The error wraps ErrLost if there is nothing to bring.
func (r *Remote) Collect(ctx context.Context, project, tmp *os.Root) (s Summary, err error) {
	var info exchange.OutputsInfo
	err = r.await(ctx, "send the outputs", func(ctx context.Context) (ok bool, err error) {
		info, err = exchange.GetJSON[exchange.OutputsInfo](ctx, r.store, r.keys.OutputsInfo())
		return err == nil, err
	})
	if err != nil {
		return Summary{}, err
	}
	if info.Lost {
		return Summary{}, fmt.Errorf("%w: %s", ErrLost, info.Error)
	}
	if info.Error != "" {
		return Summary{}, fmt.Errorf("the agent in the container: %s", info.Error)
	}
	// An agent that has sent its outputs leaves, and the training job ends.
	work, stop := survive(ctx)
	defer stop()
	defer func() { err = because(work, err) }()
	s, err = r.bringHome(work, info, project, tmp)
	if err != nil {
		return s, fmt.Errorf("bring the outputs home: %w", err)
	}
	return s, r.store.PutBytes(work, r.keys.Collected(), []byte("collected"))
}

func (r *Remote) bringHome(ctx context.Context, info exchange.OutputsInfo, project, tmp *os.Root) (Summary, error) {
	body, err := r.store.Get(ctx, r.keys.Outputs())
	if err != nil {
		return Summary{}, err
	}
	defer body.Close()

	arrived := map[string]struct{}{}
	stats, err := archive.Unpack(ctx, body, archive.Options{
		Targets:  map[string]*os.Root{archive.ProjectTree: project, archive.TmpTree: tmp},
		MaxBytes: r.opts.MaxBytes, MaxFiles: r.opts.MaxFiles, UID: r.opts.UID, GID: r.opts.GID,
		Seen: func(tree, name string) {
			if tree == archive.ProjectTree {
				arrived[name] = struct{}{}
			}
		},
	})
	s := Summary{Files: stats.Files, Bytes: stats.Bytes, Warnings: info.Warnings}
	if err != nil {
		return s, err
	}
	found, err := match.Select(ctx, project, r.opts.ProjectPath, info.Patterns)
	if err != nil {
		return s, err
	}
	for _, name := range slices.Backward(slices.Concat(found.Barred, found.Names)) {
		if _, ok := arrived[name]; ok {
			continue
		}
		// A directory stays if something is in it that no pattern matches.
		if err := project.Remove(name); err == nil {
			s.Deleted++
		} else if info, statErr := project.Lstat(name); statErr == nil && !info.IsDir() {
			return s, err
		}
	}
	return s, nil
}

// survive is ctx, but does not end with the training job: the exchange is still
// there.
func survive(ctx context.Context) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); !errors.Is(cause, ErrGone) {
			cancel(cause)
		}
	})
	return work, func() { unhook(); cancel(nil) }
}

// because is err, with what ended ctx: an AWS client says no more than "canceled".
func because(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, context.Cause(ctx)) {
		return err
	}
	return errors.Join(context.Cause(ctx), err)
}

// await calls look until it is done, ctx ends or the agent is silent. When the
// training job has ended, it looks a last time.
func (r *Remote) await(ctx context.Context, what string, look func(context.Context) (bool, error)) error {
	work, stop := survive(ctx)
	defer stop()
	go r.listen(work)
	for wait := pollFirst; ; wait = min(wait*5/4, time.Second) {
		ended := ctx.Err() != nil
		ok, err := look(work)
		switch {
		case ok:
			return nil
		case ended:
			return context.Cause(ctx)
		case err != nil && !errors.Is(err, exchange.ErrNotFound) && ctx.Err() == nil:
			return err
		}
		if err := r.silent(); err != nil {
			return fmt.Errorf("waiting for it to %s: %w", what, err)
		}
		_ = sleep(ctx, wait)
	}
}
