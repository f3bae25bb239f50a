package remote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

const (
	// Looks for output and result: often after something was found.
	pollFirst = 60 * time.Millisecond
	pollLast  = 250 * time.Millisecond
	// pollQuiet is how often after a minute without any.
	pollQuiet  = 500 * time.Millisecond
	quietAfter = time.Minute

	// pollHosts is how often the results of the other hosts are looked for.
	pollHosts = 2 * time.Second

	// stopMargin is what a stopped script's output and result may take to arrive.
	stopMargin = 30 * time.Second
)

// Step is one script to run.
type Step struct {
	Stage  string
	Script io.Reader // byte for byte what the runner generated
	// FirstHostOnly keeps the script from the hosts other than algo-1: for
	// after_script.
	FirstHostOnly bool
	// Hosts is the number of instances; 0 means 1. The step ends when the script
	// has on every host, and is stopped when it fails on any.
	Hosts int
}

// Run runs a script and relays its output to out, byte for byte, until its last
// chunk. When ctx is cancelled, the script is stopped and the rest of its output
// relayed; the result is returned, if there is one, together with ctx's cause.
// An agent that never came is not waited for then.
//
// A result with an Error is of a script that could not be run.
func (r *Remote) Run(ctx context.Context, step Step, out io.Writer) (exchange.Result, error) {
	if ctx.Err() != nil {
		return exchange.Result{}, context.Cause(ctx)
	}
	// What is left to do after a cancel needs a context of its own.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	n, err := r.publishStep(ctx, step)
	if err != nil && ctx.Err() != nil {
		if n > 0 { // it may have arrived, and nobody will wait for it
			err = r.cancelStep(work, n)
		} else {
			err = nil
		}
		return exchange.Result{}, errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		return exchange.Result{}, err
	}
	go r.listen(work)
	run := &running{Remote: r, step: n, hosts: newHosts(step), relay: relay{Remote: r, host: exchange.FirstHost, step: n, out: out}}
	return run.wait(ctx, work)
}

// publishStep sends a script and the step that names it. The number is 0 if the
// step surely was not sent.
func (r *Remote) publishStep(ctx context.Context, step Step) (int, error) {
	script, err := io.ReadAll(step.Script)
	if err != nil {
		return 0, fmt.Errorf("read the script: %w", err)
	}
	last, before, err := r.lastStep(ctx)
	if err != nil {
		return 0, err
	}
	if err := r.stopAbandoned(ctx, last, before); err != nil {
		return 0, err
	}
	n := last + 1
	key := r.keys.Script(n, step.Stage)
	if err := r.store.Put(ctx, key, bytes.NewReader(script)); err != nil {
		return 0, fmt.Errorf("send the script: %w", err)
	}
	sum := sha256.Sum256(script)
	err = exchange.PutJSONIfAbsent(ctx, r.store, r.keys.Step(n), exchange.Step{
		Kind: exchange.StepScript, Stage: step.Stage, Script: key, SHA256: hex.EncodeToString(sum[:]),
		FirstHostOnly: step.FirstHostOnly, Hosts: step.Hosts,
	})
	if err != nil {
		return n, fmt.Errorf("send the script: %w", err)
	}
	return n, nil
}

// stopAbandoned stops the script of a step that has no result. One step follows
// another only when the process that ran the first is gone, so nobody waits for
// that script: the process was killed. Whatever comes next would wait for it.
func (r *Remote) stopAbandoned(ctx context.Context, n int, step exchange.Step) error {
	if step.Kind != exchange.StepScript {
		return nil
	}
	ended, err := r.exists(ctx, r.keys.Result(n, exchange.FirstHost))
	if err != nil {
		return fmt.Errorf("find out whether the script of %s has ended: %w", step.Stage, err)
	}
	if ended && step.Hosts <= 1 {
		return nil
	}
	asked, err := r.exists(ctx, r.keys.Cancel(n))
	if err != nil || asked {
		return err
	}
	if !ended {
		r.opts.Notice("The script of %s has not ended, and what waited for it is gone: stopping it", step.Stage)
	}
	return r.cancelStep(ctx, n)
}

// cancelStep asks the agents to stop the script of a step; one that has ended
// takes no notice.
func (r *Remote) cancelStep(ctx context.Context, n int) error {
	if err := r.store.PutBytes(ctx, r.keys.Cancel(n), []byte("cancel")); err != nil {
		return fmt.Errorf("stop the script: %w", err)
	}
	return nil
}

// lastStep finds the last step that was published; number 0 if there is none.
func (r *Remote) lastStep(ctx context.Context) (int, exchange.Step, error) {
	last := 0
	for o, err := range r.store.List(ctx, r.keys.Steps()) {
		if err != nil {
			return 0, exchange.Step{}, fmt.Errorf("find the last step: %w", err)
		}
		number, ok := strings.CutSuffix(path.Base(o.Key), ".json")
		if n, err := strconv.Atoi(number); ok && err == nil {
			last = max(last, n)
		}
	}
	if last == 0 {
		return 0, exchange.Step{}, nil
	}
	step, err := exchange.GetJSON[exchange.Step](ctx, r.store, r.keys.Step(last))
	return last, step, err
}

// running is a step in progress.
type running struct {
	*Remote
	step  int
	relay relay
	hosts hosts

	cancelled bool
	deadline  time.Time // after a cancel
}

func (r *running) wait(ctx, work context.Context) (exchange.Result, error) {
	for wait, last := pollFirst, time.Now(); ; {
		if ctx.Err() != nil {
			if errors.Is(context.Cause(ctx), ErrGone) {
				return r.gone(work, context.Cause(ctx))
			}
			if !r.Contacted() {
				// Whoever comes now finds the cancel.
				return exchange.Result{}, errors.Join(context.Cause(ctx), r.cancel(work))
			}
			if err := r.cancel(work); err != nil {
				return exchange.Result{}, errors.Join(context.Cause(ctx), err)
			}
		}
		left := r.left()
		progress, result, err := r.look(work)
		if err != nil {
			return exchange.Result{}, err
		}
		if result != nil {
			return *result, context.Cause(ctx)
		}
		if r.cancelled && left && !progress {
			return exchange.Result{}, context.Cause(ctx) // SageMaker was quicker to stop it
		}
		if r.cancelled && time.Now().After(r.deadline) {
			return exchange.Result{}, errors.Join(context.Cause(ctx), fmt.Errorf("the script did not stop within %s", r.opts.StopGrace+stopMargin))
		}
		if progress {
			wait, last = pollFirst, time.Now()
			continue
		}
		if err := r.silent(); err != nil {
			return exchange.Result{}, err
		}
		if r.cancelled {
			_ = sleep(work, wait)
		} else {
			_ = sleep(ctx, wait)
		}
		if wait = min(wait*5/4, pollLast); time.Since(last) > quietAfter {
			wait = pollQuiet
		}
	}
}

// look relays the next piece of output, or finds the result.
func (r *running) look(ctx context.Context) (progress bool, result *exchange.Result, err error) {
	if !r.Contacted() {
		return false, nil, nil
	}
	if err := r.relay.follow(ctx, r.agent.incarnation()); err != nil {
		return false, nil, err
	}
	progress, err = r.relay.next(ctx)
	if progress || err != nil {
		return progress, nil, err
	}
	failed, err := r.hosts.look(ctx, r.Remote, r.step)
	if err != nil {
		return false, nil, err
	}
	if failed {
		if err := r.cancel(ctx); err != nil {
			return false, nil, err
		}
	}
	first, err := exchange.GetJSON[exchange.Result](ctx, r.store, r.keys.Result(r.step, exchange.FirstHost))
	if errors.Is(err, exchange.ErrNotFound) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	if err := r.relay.finish(ctx, first); err != nil {
		return false, nil, err
	}
	if first.ExitCode == 0 && first.Error == "" && !r.hosts.done() {
		return false, nil, nil // the others are still at it
	}
	if f := r.hosts.firstFailure(); f != nil && (first.Cancelled || (first.ExitCode == 0 && first.Error == "")) {
		return true, f, r.hostTail(ctx, *f)
	}
	return true, &first, nil
}

// hostTail shows the end of another host's output: its script is why the job fails.
func (r *running) hostTail(ctx context.Context, result exchange.Result) error {
	if result.LogChunks == 0 {
		return nil
	}
	r.opts.Notice("The end of the output of host %s:", result.Host)
	l := relay{Remote: r.Remote, host: result.Host, step: r.step, out: r.relay.out, incarnation: result.Incarnation}
	return l.printTail(ctx, result.LogChunks)
}

// cancel asks the agents to stop the script, once.
func (r *running) cancel(ctx context.Context) error {
	if r.cancelled {
		return nil
	}
	if err := r.cancelStep(ctx, r.step); err != nil {
		return err
	}
	r.cancelled, r.deadline = true, time.Now().Add(r.opts.StopGrace+stopMargin)
	return nil
}

// gone relays what there is of a job that has ended. A result counts even so.
func (r *running) gone(ctx context.Context, cause error) (exchange.Result, error) {
	// The agent may have come and gone between two looks.
	if b, err := exchange.GetJSON[exchange.Beat](ctx, r.store, r.keys.AgentBeat(exchange.FirstHost)); err == nil {
		r.agent.heard(b)
	}
	for {
		progress, result, err := r.look(ctx)
		if err != nil {
			return exchange.Result{}, errors.Join(cause, err)
		}
		if result != nil && result.Error != "" {
			return *result, nil // the agent's own reason tells more than SageMaker's
		}
		if result != nil {
			return *result, cause
		}
		if !progress {
			return exchange.Result{}, errors.Join(cause, r.relay.tail(ctx))
		}
	}
}
