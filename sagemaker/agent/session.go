package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

const (
	defaultStopGrace = 30 * time.Second
	defaultDeadAfter = 10 * time.Minute

	// firstPoll grows by a fifth at each look for the next step, to lastPoll.
	firstPoll = 40 * time.Millisecond
	lastPoll  = 5 * time.Second

	// lastWords limits what is done after the context has ended: SageMaker kills
	// a container 120 s after its SIGTERM.
	lastWords = 60 * time.Second

	// jobWait is how long job.json may be missing at the start.
	jobWait = 10 * time.Minute
)

// agent is one incarnation on one host.
type agent struct {
	store exchange.Store
	keys  exchange.Keys
	opts  Options

	host        string
	incarnation int
	nonce       string
	job         exchange.Job
	env         []string // of scripts
	shell       string
	scratch     string // directory of our own
	console     *console
	reaper      *reaper

	verdict *ExitError // of the last script that failed
	// finished: it was told to finish, and the other side waits for SageMaker.
	finished bool
	lost     bool // a script ended in an earlier incarnation, its files are gone
}

func (a *agent) run(ctx context.Context) (err error) {
	a.console = newConsole(a.opts.Stdout)
	// Writing to a stdout that nobody reads any more must not end the agent. To
	// ignore the signal would be inherited by the scripts.
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, unix.SIGPIPE)
	defer signal.Stop(pipes)
	stopped := ctx
	defer func() {
		if err != nil && stopped.Err() != nil {
			err = fmt.Errorf("SageMaker has stopped the container: %w", err)
		}
		if err != nil {
			a.console.Printf("sagemaker-executor: %v\n", err)
			a.writeFailure(err)
		}
		if err != nil && a.incarnation > 0 && !a.finished {
			a.leave(stopped)
		}
	}()
	if err := becomeSubreaper(); err != nil {
		return err
	}
	defer killDescendants()
	platform, err := readPlatform(a.opts.MLDir)
	if err != nil {
		return err
	}
	a.host, a.nonce = platform.host(), rand.Text()
	if err := a.claim(ctx); err != nil {
		return err
	}
	if a.job, err = a.fetchJob(ctx); err != nil {
		return err
	}
	a.console.configure(a.job)
	a.env = platform.environment(os.Environ(), a.job.Env)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go a.beat(ctx)
	go a.watchExecutor(ctx, cancel)

	defer func() { os.RemoveAll(a.scratch) }()
	if err := a.setUp(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return a.failSetUp(ctx, err)
	}
	// Not before: it would take what setUp runs for orphans.
	a.reaper = newReaper()
	defer a.reaper.close()
	if err := a.steps(ctx); err != nil {
		return err
	}
	if a.verdict != nil {
		return a.verdict
	}
	return nil
}

// claim takes the first incarnation of this host that nobody has.
func (a *agent) claim(ctx context.Context) error {
	for n := 1; ; n++ {
		err := exchange.PutJSONIfAbsent(ctx, a.store, a.keys.Incarnation(a.host, n), exchange.Beat{Incarnation: n, Nonce: a.nonce})
		if errors.Is(err, exchange.ErrExists) {
			continue
		}
		if err != nil {
			return fmt.Errorf("claim an incarnation: %w", err)
		}
		a.incarnation = n
		return nil
	}
}

func (a *agent) fetchJob(ctx context.Context) (exchange.Job, error) {
	var job exchange.Job
	err := poll(ctx, jobWait, func() (ok bool, err error) {
		job, err = exchange.GetJSON[exchange.Job](ctx, a.store, a.keys.Job())
		return err == nil, err
	})
	if err != nil {
		return job, fmt.Errorf("fetch the job: %w", err)
	}
	if job.Version != exchange.Version {
		return job, fmt.Errorf("the job has version %d and this agent knows %d: executor and agent must be the same binary", job.Version, exchange.Version)
	}
	if !filepath.IsAbs(job.ProjectDir) || !filepath.IsAbs(job.TmpDir) {
		return job, fmt.Errorf("the job's directories %q and %q must be absolute", job.ProjectDir, job.TmpDir)
	}
	if job.StopGrace == 0 {
		job.StopGrace = exchange.Duration(defaultStopGrace)
	}
	if job.DeadAfter == 0 {
		job.DeadAfter = exchange.Duration(defaultDeadAfter)
	}
	return job, nil
}

// failSetUp reports an error in place of the result of the next script.
func (a *agent) failSetUp(ctx context.Context, cause error) error {
	user := &userError{}
	result := exchange.Result{
		Host: a.host, Incarnation: a.incarnation, Error: cause.Error(), UserError: errors.As(cause, &user), Ended: time.Now(),
	}
	for n := 1; ; n++ {
		err := exchange.PutJSONIfAbsent(ctx, a.store, a.keys.Result(n, a.host), result)
		if errors.Is(err, exchange.ErrExists) {
			continue
		}
		return errors.Join(cause, err)
	}
}

// steps serves the executor's commands in order, until finish.
func (a *agent) steps(ctx context.Context) error {
	for n := 1; ; n++ {
		step, err := a.nextStep(ctx, n)
		if err != nil {
			return err
		}
		switch {
		case step.Kind == exchange.StepFinish:
			return a.finish(ctx)
		case step.Kind != exchange.StepScript:
			return fmt.Errorf("step %d is of the unknown kind %q", n, step.Kind)
		case step.FirstHostOnly && a.host != exchange.FirstHost:
			continue
		}
		if a.incarnation > 1 {
			r, err := exchange.GetJSON[exchange.Result](ctx, a.store, a.keys.Result(n, a.host))
			if err == nil {
				a.lost = true
				if !step.FirstHostOnly {
					a.judge(r)
				}
				continue
			}
			if !errors.Is(err, exchange.ErrNotFound) {
				return err
			}
		}
		if err := a.script(ctx, n, step); err != nil {
			return err
		}
	}
}

// nextStep waits for a step.
func (a *agent) nextStep(ctx context.Context, n int) (step exchange.Step, err error) {
	err = poll(ctx, 0, func() (bool, error) {
		step, err = exchange.GetJSON[exchange.Step](ctx, a.store, a.keys.Step(n))
		return err == nil, err
	})
	if err != nil {
		return step, fmt.Errorf("fetch step %d: %w", n, err)
	}
	return step, nil
}

// poll calls look until it is done, less and less often. A missing object is
// waited for, for as long as limit says (0: for ever); another error ends it.
func poll(ctx context.Context, limit time.Duration, look func() (bool, error)) error {
	wait, start := firstPoll, time.Now()
	for {
		ok, err := look()
		if ok {
			return nil
		}
		if err != nil && !errors.Is(err, exchange.ErrNotFound) && ctx.Err() == nil {
			return err
		}
		if limit > 0 && time.Since(start) > limit {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
			wait = min(wait*6/5, lastPoll)
		}
	}
}

// judge remembers a failed script, for the agent's own exit code.
func (a *agent) judge(r exchange.Result) {
	switch {
	case r.Error != "":
		a.verdict = &ExitError{Code: 1, Err: errors.New(r.Error)}
	case r.ExitCode != 0 && a.verdict == nil:
		a.verdict = &ExitError{Code: r.ExitCode, Err: errors.New(sentence(r))}
	}
}

// sentence is what the SageMaker console shows of a failed script.
func sentence(r exchange.Result) string {
	switch {
	case r.OOM:
		return fmt.Sprintf("the job's script ran out of memory (exit code %d): use a larger instance type", r.ExitCode)
	case r.Signal != "":
		return fmt.Sprintf("the job's script was killed by %s (exit code %d)", r.Signal, r.ExitCode)
	default:
		return fmt.Sprintf("the job's script exited with code %d: see the job log in GitLab", r.ExitCode)
	}
}

// writeFailure leaves our sentence, never output of the script, as the job's
// FailureReason; SageMaker takes the first 1024 characters.
func (a *agent) writeFailure(err error) {
	text := err.Error()
	if len(text) > 1024 {
		text = text[:1024]
	}
	dir := filepath.Join(a.opts.MLDir, "output")
	if err := os.MkdirAll(dir, 0o777); err == nil {
		err = os.WriteFile(filepath.Join(dir, "failure"), []byte(text), 0o666)
		if err != nil {
			a.console.Printf("sagemaker-executor: write the failure: %v\n", err)
		}
	}
}
