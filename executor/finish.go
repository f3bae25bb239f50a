package executor

import (
	"context"
	"errors"
	"fmt"
	"sync"

	awssagemaker "github.com/aws/aws-sdk-go-v2/service/sagemaker"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/remote"
)

// watch is a running training job while a stage has to do with it: the
// executor's sign of life is renewed, and the job's end cancels ctx with
// remote.ErrGone as its cause.
type watch struct {
	ctx    context.Context //nolint:containedctx // it is what a watch is: the life of the job
	remote *remote.Remote
	aws    *sagemaker.Training

	cancel context.CancelCauseFunc
	done   sync.WaitGroup
	ended  *awssagemaker.DescribeTrainingJobOutput // set before ctx ends
}

func (t *training) watch(ctx context.Context, c *sagemaker.Clients) *watch {
	w := &watch{remote: t.remote(c, t.state.Attempt), aws: t.training(c)}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.done.Go(func() { w.remote.Beat(w.ctx) })
	w.done.Go(func() {
		d, err := w.aws.Attend(w.ctx, t.state.Name, w.remote)
		if err != nil {
			// Trouble with Describe alone is not the end: the agent is the
			// judge of its own silence.
			if w.ctx.Err() == nil {
				t.log.Warn("%v", err)
			}
			return
		}
		w.ended = d
		w.cancel(gone(d))
	})
	return w
}

func (w *watch) stop() {
	w.cancel(nil)
	w.done.Wait()
}

// gone is the error of a job that ended without having been told to.
func gone(d *awssagemaker.DescribeTrainingJobOutput) error {
	if err := sagemaker.Judge(d); err != nil {
		return fmt.Errorf("%w: %w", remote.ErrGone, err)
	}
	return fmt.Errorf("%w: it says Completed, although its script had not ended", remote.ErrGone)
}

// lost turns an error of a running script into what GitLab is told.
func (t *training) lost(ctx context.Context, w *watch, result exchange.Result, err error) error {
	var end *sagemaker.EndError
	switch {
	case ctx.Err() != nil:
		return err
	case errors.Is(err, remote.ErrGone):
		t.state.Gone, t.state.Ended = causeText(err), true
		if w.ended != nil {
			t.summarize(ctx, w.ended)
		}
		if errors.As(err, &end) && end.Ending == sagemaker.Algorithm && result.ExitCode != 0 {
			// The container ended because the script did, as on another host.
			return errors.Join(scriptVerdict(result, t.state.InstanceType), t.save())
		}
		return errors.Join(verdict(withoutGone(err)), t.save())
	case errors.Is(err, remote.ErrSilent):
		t.state.Gone = "the agent in the container is silent"
		return errors.Join(fmt.Errorf("%w; the training job %s will be stopped; retry the job", err, t.state.Name), t.save())
	}
	return err
}

// withoutGone is the reason inside an ErrGone, if it is one of AWS's.
func withoutGone(err error) error {
	var end *sagemaker.EndError
	if errors.As(err, &end) {
		return end
	}
	return err
}

func causeText(err error) string { return withoutGone(err).Error() }

// end sends the finish, brings the files home, and waits for the training
// job's terminal status. A job whose script succeeded fails if SageMaker could
// not complete it, as then there is no model.
func (t *training) end(ctx context.Context, w *watch) error {
	if !t.state.Finished {
		if err := w.remote.Finish(w.ctx); err != nil {
			return t.lost(ctx, w, exchange.Result{}, err)
		}
		t.state.Finished = true
		if err := t.save(); err != nil {
			return err
		}
	}
	if err := t.collect(ctx, w); err != nil {
		return err
	}
	return t.judge(ctx, w)
}

// collect brings home what artifacts and caches need.
func (t *training) collect(ctx context.Context, w *watch) error {
	if t.state.Collected || !t.job.HasUploads(t.state.Succeeded) {
		return nil
	}
	project, err := t.projectDir()
	if err != nil {
		return err
	}
	home, tmp, err := t.roots(project)
	if err != nil {
		return err
	}
	defer home.Close()
	defer tmp.Close()
	got, err := w.remote.Collect(w.ctx, home, tmp)
	if errors.Is(err, remote.ErrLost) {
		return fmt.Errorf("%w; retry the job", err)
	}
	if err != nil {
		return t.lost(ctx, w, exchange.Result{}, err)
	}
	for _, warning := range got.Warnings {
		t.log.Warn("%s", warning)
	}
	t.log.Line("Brought %s home (%s)", count(got.Files, "file"), megabytes(got.Bytes))
	if err := t.results(project); err != nil {
		return err
	}
	t.state.Collected = true
	return t.save()
}

// judge waits for the terminal status.
func (t *training) judge(ctx context.Context, w *watch) error {
	if t.state.Ended {
		return nil
	}
	d := w.ended
	if d == nil {
		var err error
		if d, err = w.aws.Wait(ctx, t.state.Name); err != nil {
			return err
		}
	}
	t.state.Ended = true
	t.summarize(ctx, d)
	err := t.save()
	if !t.state.Succeeded {
		return err // the script's failure is SageMaker's, too
	}
	return errors.Join(verdict(sagemaker.Judge(d)), err)
}

// bringHome makes sure, before the first stage that archives or uploads, that
// the training job is over and its files are here.
func (t *training) bringHome(ctx context.Context) error {
	if t.state.Name == "" || t.state.Gone != "" || t.state.Ended && t.state.Collected {
		return nil
	}
	if !t.state.Contacted { // the process that waited for the agent was killed
		t.log.Warn("Nothing comes home: the training job had not started when the stage that waited for it ended")
		return nil
	}
	c, err := t.aws(ctx)
	if err != nil {
		return err
	}
	w := t.watch(ctx, c)
	defer w.stop()
	return t.end(ctx, w)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
