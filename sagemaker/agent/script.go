package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

const (
	// cancelEvery is how often a running script's cancel is looked for.
	cancelEvery = time.Second
	// sendPause is between attempts to send a piece of the log, each of which
	// takes its time already unless it is refused at once.
	sendPause = time.Second
	// maxScript limits a script; variables travel in it.
	maxScript = 1 << 30
)

// script runs step n and reports its result. The error is the agent's own; a
// script that fails is a result. If SageMaker stops the container meanwhile, no
// result is written: on spot instances, the next incarnation runs the script.
func (a *agent) script(ctx context.Context, n int, step exchange.Step) error {
	file, err := a.fetchScript(ctx, n, step)
	if err != nil {
		return err
	}
	defer os.Remove(file)

	if a.cancelled(ctx, n) {
		return a.report(ctx, n, step, exchange.Result{
			Host: a.host, Incarnation: a.incarnation, ExitCode: 128 + int(unix.SIGTERM), Cancelled: true,
			Started: time.Now(), Ended: time.Now(),
		})
	}
	log := newLogWriter(func(chunk int, b []byte) {
		a.sendChunk(ctx, a.keys.Chunk(a.host, a.incarnation, n, chunk), b)
	})
	result := exchange.Result{Host: a.host, Incarnation: a.incarnation, Started: time.Now()}
	scriptCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go a.watchCancel(scriptCtx, n, cancel)

	// The shell reads the script from its input, as it does in the runner's own
	// executors, so that its messages are the same ("bash: line 107: ...").
	stdin, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("open the script of step %d: %w", n, err)
	}
	defer stdin.Close()
	args := append(append([]string{}, a.job.Entrypoint...), a.shell)
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // runCommand stops it with a grace
	if len(a.job.Entrypoint) == 0 {
		cmd.Args[0] = filepath.Base(a.shell)
	}
	cmd.Dir, cmd.Env, cmd.Stdin = a.job.ProjectDir, a.env, stdin
	oom := newOOMCounter()
	run := runCommand(scriptCtx, a.reaper, cmd, io.MultiWriter(log, a.console), func() time.Duration {
		if ctx.Err() != nil {
			return min(time.Duration(a.job.StopGrace), lastWords)
		}
		return time.Duration(a.job.StopGrace)
	})
	a.console.Flush()
	result.LogChunks, result.LogBytes = log.Close()
	result.Ended = time.Now()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	result.Cancelled = scriptCtx.Err() != nil
	if run.err != nil {
		result.Error, result.UserError = a.notStarted(run.err), true
	} else {
		result.ExitCode, result.Signal, result.MaxRSS = run.exitCode, run.signal, run.maxRSS
		result.OOM = run.exitCode != 0 && !result.Cancelled && oom.Killed(run.exitCode)
	}
	return a.report(ctx, n, step, result)
}

// report sends the result of step n. after_script, which alone runs on the first
// host only, does not make a job fail.
func (a *agent) report(ctx context.Context, n int, step exchange.Step, result exchange.Result) error {
	if !step.FirstHostOnly {
		a.judge(result)
	}
	if err := exchange.PutJSONIfAbsent(ctx, a.store, a.keys.Result(n, a.host), result); err != nil {
		return fmt.Errorf("report the result of step %d: %w", n, err)
	}
	return nil
}

// fetchScript writes a script to a file of our own. It holds secrets.
func (a *agent) fetchScript(ctx context.Context, n int, step exchange.Step) (string, error) {
	r, err := a.store.Get(ctx, step.Script)
	if err != nil {
		return "", fmt.Errorf("fetch the script of step %d: %w", n, err)
	}
	defer r.Close()
	name := filepath.Join(a.scratch, fmt.Sprintf("script-%04d", n))
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fmt.Errorf("write the script of step %d: %w", n, err)
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, hash), io.LimitReader(r, maxScript))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("fetch the script of step %d: %w", n, err)
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != step.SHA256 {
		return "", fmt.Errorf("the script of step %d has the SHA-256 %s and not %s, as announced", n, sum, step.SHA256)
	}
	return name, nil
}

// watchCancel cancels the script of step n when the executor asks for it.
func (a *agent) watchCancel(ctx context.Context, n int, cancel context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(cancelEvery):
		}
		if a.cancelled(ctx, n) {
			cancel(errors.New("cancelled"))
			return
		}
	}
}

func (a *agent) cancelled(ctx context.Context, n int) bool {
	r, err := a.store.Get(ctx, a.keys.Cancel(n))
	if err != nil {
		return false
	}
	r.Close()
	return true
}

// sendChunk stores a piece of the log. It does not give up while the agent may
// live: meanwhile the script waits for its output to be taken.
func (a *agent) sendChunk(ctx context.Context, key string, b []byte) {
	for {
		send, stop := ctx, context.CancelFunc(func() {})
		if ctx.Err() != nil {
			send, stop = context.WithTimeout(context.WithoutCancel(ctx), lastWords/2)
		}
		err := a.store.PutBytes(send, key, b)
		stop()
		if err == nil || (ctx.Err() != nil && send != ctx) {
			return
		}
		if ctx.Err() == nil {
			a.console.Printf("sagemaker-executor: send the log: %v\n", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(sendPause):
		}
	}
}
