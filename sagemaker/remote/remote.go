// Package remote is the executor's end of the exchange: it sends the project
// and the scripts to the agent, relays the output, and brings the files home.
//
// Every stage of a job is a process of its own, so a Remote keeps nothing that
// it cannot find again in the exchange.
package remote

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

// Errors of a Remote.
var (
	// ErrSilent means that the agent was heard once and is heard no more.
	ErrSilent = errors.New("the agent in the container is silent")
	// ErrGone is the cause with which the caller cancels the context of Run,
	// Finish or Collect when the training job has ended: what is in the exchange
	// is still relayed, and the cause returned.
	//
	//	ctx, cancel := context.WithCancelCause(parent)
	//	cancel(fmt.Errorf("%w: %s", remote.ErrGone, failureReason))
	ErrGone = errors.New("the training job has ended")
	// ErrLost means that the files of a script that has ended are lost, as the
	// instance was taken away before they were sent.
	ErrLost = errors.New("the files of the script are lost")
)

// Options are the settings of a Remote. The zero value has usable defaults.
type Options struct {
	// LogLimit is the number of bytes after which the relay of a step pauses;
	// the tail is printed at the end. 0 means no limit.
	LogLimit int64
	// StopGrace is the agent's: after a cancel, Run waits this long and a little
	// more for the script to end. 0 means 30 s.
	StopGrace time.Duration
	// SilentAfter is how long the agent's beat may stand still before Run,
	// Finish and Collect return ErrSilent. 0 means 5 minutes.
	SilentAfter time.Duration
	// ProjectPath is the project's directory as scripts see it: the job's
	// patterns and links may be absolute.
	ProjectPath string
	// UID and GID own what Collect writes; 0 leaves it to the process's own.
	UID, GID int
	// MaxBytes and MaxFiles limit what Collect unpacks; 0 means 1 TiB and 5 million.
	MaxBytes int64
	MaxFiles int
	// Notice prints a line of ours into the job log, e.g. of a restart. nil
	// drops it.
	Notice func(format string, args ...any)
}

const (
	defaultStopGrace   = 30 * time.Second
	defaultSilentAfter = 5 * time.Minute
)

// Remote is one attempt of a job, seen from the executor.
type Remote struct {
	store exchange.Store
	keys  exchange.Keys
	opts  Options
	agent liveness
}

// New makes the Remote of one attempt.
func New(store exchange.Store, keys exchange.Keys, opts Options) *Remote {
	if opts.StopGrace == 0 {
		opts.StopGrace = defaultStopGrace
	}
	if opts.SilentAfter == 0 {
		opts.SilentAfter = defaultSilentAfter
	}
	if opts.Notice == nil {
		opts.Notice = func(string, ...any) {}
	}
	return &Remote{store: store, keys: keys, opts: opts, agent: liveness{changed: time.Now()}}
}

// WriteIntent announces the resource that is about to be created. The error
// wraps exchange.ErrExists if another process has taken this attempt.
func (r *Remote) WriteIntent(ctx context.Context, intent exchange.Intent) error {
	return exchange.PutJSONIfAbsent(ctx, r.store, r.keys.Intent(), intent)
}

// Attempt is an Intent and where it was found.
type Attempt struct {
	Keys   exchange.Keys
	Intent exchange.Intent
}

// Intents finds the attempts of a job, the first one first. prefix is
// exchange.AttemptsPrefix's.
func Intents(ctx context.Context, store exchange.Store, prefix string) ([]Attempt, error) {
	var attempts []Attempt
	for o, err := range store.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("find the attempts of the job: %w", err)
		}
		dir, file := path.Split(o.Key)
		if file != "intent.json" || strings.Contains(strings.TrimPrefix(dir, prefix), "/../") {
			continue
		}
		keys := exchange.Keys{Prefix: dir}
		if o.Key != keys.Intent() || strings.Count(strings.TrimPrefix(dir, prefix), "/") != 1 {
			continue
		}
		intent, err := exchange.GetJSON[exchange.Intent](ctx, store, o.Key)
		if errors.Is(err, exchange.ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		attempts = append(attempts, Attempt{Keys: keys, Intent: intent})
	}
	return attempts, nil
}

// Delete removes the attempt from the exchange, its intent last, so that what
// was interrupted is found again. A log that the job log does not show in full
// stays, until the bucket's life cycle ends it.
func (r *Remote) Delete(ctx context.Context) error {
	keepLog, err := r.exists(ctx, r.keys.LogKept())
	if err != nil {
		return err
	}
	var keys []string
	for o, err := range r.store.List(ctx, r.keys.All()) {
		if err != nil {
			return fmt.Errorf("delete the exchange: %w", err)
		}
		if o.Key == r.keys.Intent() || (keepLog && strings.HasPrefix(o.Key, r.keys.Logs())) {
			continue
		}
		keys = append(keys, o.Key)
	}
	if err := r.store.Delete(ctx, keys...); err != nil {
		return fmt.Errorf("delete the exchange: %w", err)
	}
	if err := r.store.Delete(ctx, r.keys.Intent()); err != nil {
		return fmt.Errorf("delete the exchange: %w", err)
	}
	return nil
}

func (r *Remote) exists(ctx context.Context, key string) (bool, error) {
	body, err := r.store.Get(ctx, key)
	if errors.Is(err, exchange.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, body.Close()
}
