package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/job"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/request"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/remote"
)

// training is a stage of a job of the kind training.
type training struct {
	*stage
	state *state
}

func (t *training) save() error { return t.state.save(t.dirs.base) }

// script runs one of the job's steps in SageMaker: the first one launches the
// training job. Where no after_script follows, the last one, or one that
// fails, also ends the training job and brings its files home: after_script's
// failures are ignored by GitLab and the stages after it may not come.
func (t *training) script(ctx context.Context, name string, script *os.File) error {
	if t.state.Gone != "" {
		return fmt.Errorf("the step %s cannot run: %s", name, t.state.Gone)
	}
	c, err := t.aws(ctx)
	if err != nil {
		return err
	}
	if t.state.Name == "" {
		if err := t.launch(ctx, c); err != nil {
			return verdict(err)
		}
	}
	// An earlier step's success must not be taken for this one's, should this
	// process be killed.
	if t.state.Succeeded {
		t.state.Succeeded = false
		if err := t.save(); err != nil {
			return err
		}
	}
	w := t.watch(ctx, c)
	defer w.stop()

	result, err := w.remote.Run(w.ctx, remote.Step{Stage: name, Script: script, Hosts: t.state.Hosts}, t.out)
	if err != nil {
		return t.lost(ctx, w, result, err)
	}
	scriptErr := scriptVerdict(result, t.state.InstanceType)
	if scriptErr != nil {
		if err := t.stoppedBySageMaker(ctx, w); err != nil {
			return err
		}
	}
	t.state.Succeeded = scriptErr == nil
	t.state.PeakMemory = max(t.state.PeakMemory, result.MaxRSS)
	if err := t.save(); err != nil {
		return err
	}
	t.note(result)
	if t.job.HasAfterScript() || (scriptErr == nil && !t.lastStep(name)) {
		return scriptErr
	}
	homeErr := t.end(ctx, w)
	if scriptErr != nil {
		if homeErr != nil {
			t.log.Warn("%v", homeErr)
		}
		return scriptErr
	}
	return homeErr
}

// stoppedBySageMaker tells whether it was SageMaker, at a limit or at somebody's
// request, that ended the script: then that is what happened, whatever the
// script made of the SIGTERM (the runner's scripts exit with 1).
func (t *training) stoppedBySageMaker(ctx context.Context, w *watch) error {
	stopping, err := w.aws.Stopping(ctx, t.state.Name)
	if err != nil || !stopping {
		return err
	}
	d, err := w.aws.Wait(ctx, t.state.Name)
	if err != nil {
		return err
	}
	w.ended = d
	return t.lost(ctx, w, exchange.Result{}, gone(d))
}

// launch creates the training job and waits for its agent.
func (t *training) launch(ctx context.Context, c *sagemaker.Clients) error {
	project, err := t.projectDir()
	if err != nil {
		return err
	}
	// Both are sent once there is an instance: find out before one is billed.
	root, tmp, err := t.roots(project)
	if err != nil {
		return err
	}
	tmp.Close()
	req, err := request.Resolve(t.job, t.settings, t.remaining())
	if err == nil {
		req, err = req.WithSpec(root, t.remaining())
	}
	root.Close()
	if err != nil {
		return err
	}
	agent, err := sagemaker.PublishAgent(ctx, c.S3, t.settings.Exchange(), t.settings.Prefix, t.Executable)
	if err != nil {
		return err
	}
	t.state.Asked, t.state.Hosts = true, req.Instances
	if err := t.save(); err != nil {
		return err
	}

	end := t.log.Section("sagemaker_start", "Starting the SageMaker training job", true)
	defer end()
	started := time.Now()
	jb, err := t.training(c).Launch(ctx, sagemaker.Plan{
		Request:         req.Create,
		InstanceTypes:   req.InstanceTypes,
		CapacityWait:    t.settings.Waits.CapacityWait.D(),
		QuotaWait:       t.settings.Waits.QuotaWait.D(),
		AgentURI:        agent,
		ImageEntrypoint: req.Entrypoint.Mode == request.EntrypointImage,
		Exchange:        &attempts{training: t, clients: c, request: req, workload: t.workload(req, project)},
	})
	var ended *sagemaker.EndError
	if errors.As(err, &ended) {
		t.showCloudWatch(ctx, c, ended.Name)
	}
	if err != nil {
		t.state.Gone = "the training job could not be started"
		return errors.Join(err, t.save())
	}
	t.state.Contacted = true
	t.log.Line("%s is there after %s", jb.InstanceType, time.Since(started).Round(time.Second))
	return t.save()
}

// showCloudWatch prints what the container said before it ended: where there
// is no agent, the image could not start, and CloudWatch knows more.
func (t *training) showCloudWatch(ctx context.Context, c *sagemaker.Clients, name string) {
	lines, err := sagemaker.TailLogs(ctx, c.Logs, name)
	if err != nil {
		t.log.Warn("%v", err)
	}
	for _, line := range lines {
		fmt.Fprintln(t.out, line)
	}
	t.log.Link("CloudWatch log", sagemaker.LogsURL(c.Region, name))
}

// lastStep tells whether no other step of the job follows.
func (t *training) lastStep(name string) bool {
	last := job.StepScript
	for _, step := range t.job.Steps {
		if step.Name != job.StepAfterScript {
			last = step.Name
		}
	}
	return name == "step_"+last || last == job.StepScript && name == "build_script"
}

// afterScript runs the after_script in the script's container, and then ends
// the training job. Its files come home with the next stage, whose failure
// counts. A container that is gone is no failure.
func (t *training) afterScript(ctx context.Context, script *os.File) error {
	if why := t.unreachable(); why != "" {
		t.log.Warn("after_script is skipped: %s", why)
		return nil
	}
	c, err := t.aws(ctx)
	if err != nil {
		return err
	}
	w := t.watch(ctx, c)
	defer w.stop()
	result, err := w.remote.Run(w.ctx, remote.Step{Stage: "after_script", Script: script, FirstHostOnly: true}, t.out)
	if errors.Is(err, remote.ErrGone) || errors.Is(err, remote.ErrSilent) {
		t.state.Gone = err.Error()
		t.log.Warn("after_script did not run to its end: %v", verdict(err))
		return t.save()
	}
	// The finish is sent even after a failure or a cancel (its time-out), or
	// the files of the script would be lost.
	fctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	finishErr := w.remote.Finish(fctx)
	if finishErr == nil {
		t.state.Finished = true
		finishErr = t.save()
	}
	if err != nil {
		return errors.Join(err, finishErr)
	}
	return errors.Join(scriptVerdict(result, t.state.InstanceType), finishErr)
}

// finishTimeout is for the agent's answer to a finish, at the end of an
// after_script that was cancelled.
const finishTimeout = 30 * time.Second

// unreachable says why no script can run in the container, or nothing.
func (t *training) unreachable() string {
	switch {
	case t.state.Gone != "":
		return t.state.Gone
	case !t.state.Contacted:
		return "there is no container: it was never started"
	case t.state.Finished:
		return "the container has finished already"
	}
	return ""
}

// whileAlive does something on the host and lets a waiting agent know that the
// executor is alive.
func (t *training) whileAlive(ctx context.Context, do func() error) error {
	if t.state.Name == "" || t.state.Finished || t.state.Gone != "" {
		return do()
	}
	c, err := t.aws(ctx)
	if err != nil {
		return err
	}
	w := t.watch(ctx, c)
	defer w.stop()
	return do()
}

// note remarks what a script's result has to tell beside its exit code.
func (t *training) note(r exchange.Result) {
	if r.OOM && r.ExitCode == 0 {
		t.log.Warn("The kernel killed a process of the script for want of memory, though the script itself succeeded")
	}
}
