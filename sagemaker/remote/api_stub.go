package remote

import (
	"context"
	"errors"
	"io"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

var errUnfinished = errors.New("not written yet")

// Remote is one attempt of a job, seen from the executor.
type Remote struct {
	store exchange.Store
	keys  exchange.Keys
	opts  Options
}

// New makes the Remote of one attempt.
func New(store exchange.Store, keys exchange.Keys, opts Options) *Remote {
	return &Remote{store: store, keys: keys, opts: opts}
}

// Attempt is an Intent and where it was found.
type Attempt struct {
	Keys   exchange.Keys
	Intent exchange.Intent
}

// Intents finds the attempts of a job. prefix is exchange.AttemptsPrefix's.
func Intents(ctx context.Context, store exchange.Store, prefix string) ([]Attempt, error) {
	return nil, errUnfinished
}

// Publish sends the job and its files. It may run while the instance starts.
func (r *Remote) Publish(ctx context.Context, job exchange.Job) error { return errUnfinished }

// Run runs a script and relays its output to out, byte for byte, until its last
// chunk. When ctx is cancelled, the script is stopped and the rest of its
// output relayed; the result is returned together with ctx's cause. An agent
// that never came is not waited for then.
func (r *Remote) Run(ctx context.Context, step Step, out io.Writer) (exchange.Result, error) {
	return exchange.Result{}, errUnfinished
}

// Contacted says whether the agent has been heard, by this process.
func (r *Remote) Contacted() bool { return false }

// Silence is how long the agent's beat has stood still, by this process's
// clock; since New if it was never heard. It moves while Run, Finish or Collect
// run.
func (r *Remote) Silence() time.Duration { return 0 }

// Finish tells the agent to pack the outputs and leave, and returns when it has
// acknowledged. It may be called again.
func (r *Remote) Finish(ctx context.Context) error { return errUnfinished }

// Finished says whether the agent has acknowledged the finish, without waiting.
func (r *Remote) Finished(ctx context.Context) (bool, error) { return false, errUnfinished }

// Collect waits for the outputs and brings them home: deletes what the job's
// patterns match in projectDir, then unpacks. What is deleted or written lies
// below the two directories, whatever the container says.
func (r *Remote) Collect(ctx context.Context, projectDir, tmpDir string) (Summary, error) {
	return Summary{}, errUnfinished
}

// Collected says whether a Collect, of any process, has completed.
func (r *Remote) Collected(ctx context.Context) (bool, error) { return false, errUnfinished }

// Beat renews the executor's sign of life until ctx ends. Every stage of the
// executor runs it, so that the agent does not end itself.
func (r *Remote) Beat(ctx context.Context) {}

// Delete removes the attempt from the exchange; the log stays if the job log
// shows only part of it.
func (r *Remote) Delete(ctx context.Context) error { return errUnfinished }
