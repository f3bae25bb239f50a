// Package remote is the executor's end of the exchange: it sends the project
// and the scripts to the agent, relays the output, and brings the files home.
//
// Every stage of a job is a process of its own, so a Remote keeps nothing that
// it cannot find again in the exchange.
package remote

import (
	"context"
	"errors"
	"io"
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
	// instance was taken away before they were packed.
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
	// UID and GID own what Collect writes; 0 leaves it to the process's own.
	UID, GID int
	// MaxBytes and MaxFiles limit what Collect unpacks; 0 means 1 TiB and 5 million.
	MaxBytes int64
	MaxFiles int
	// Notice prints a line of ours into the job log, e.g. of a restart. nil drops it.
	Notice func(format string, args ...any)
}

// Step is one script to run.
type Step struct {
	Stage  string
	Script io.Reader // byte for byte what the runner generated
	// FirstHostOnly keeps the script from the hosts other than algo-1: for after_script.
	FirstHostOnly bool
}

// Summary says what came home.
type Summary struct {
	Files    int
	Bytes    int64
	Deleted  int      // files of the host that were gone in the container
	Warnings []string // of patterns that match nothing they may match
}

// WriteIntent announces the resource that is about to be created. The error
// wraps exchange.ErrExists if another process has taken this attempt number.
func (r *Remote) WriteIntent(ctx context.Context, intent exchange.Intent) error {
	return exchange.PutJSONIfAbsent(ctx, r.store, r.keys.Intent(), intent)
}
