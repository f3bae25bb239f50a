package remote

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"sync"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

const (
	// beatEvery is how often the executor's sign of life is renewed.
	beatEvery = 10 * time.Second

	// The agent's is looked at more often until it is there.
	contactFirst = 50 * time.Millisecond
	contactLast  = time.Second
	listenEvery  = 3 * time.Second
)

// liveness is what is known of the first host's agent.
type liveness struct {
	mu        sync.Mutex
	contacted bool
	changed   time.Time // of the beat, by our own clock
	last      exchange.Beat
}

func (l *liveness) heard(b exchange.Beat) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.Left && b.Incarnation <= l.last.Incarnation {
		return // a beat that was on its way
	}
	if b != l.last {
		l.contacted, l.last, l.changed = true, b, time.Now()
	}
}

func (l *liveness) incarnation() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last.Incarnation
}

// Contacted says whether the agent has been heard, by this process.
func (r *Remote) Contacted() bool {
	r.agent.mu.Lock()
	defer r.agent.mu.Unlock()
	return r.agent.contacted
}

// Silence is how long the agent's beat has stood still, by this process's
// clock; since New if it was never heard, and for ever if the agent has said
// that it leaves. It is looked at while Run, Finish or Collect run.
func (r *Remote) Silence() time.Duration {
	r.agent.mu.Lock()
	defer r.agent.mu.Unlock()
	if r.agent.last.Left {
		return math.MaxInt64
	}
	return time.Since(r.agent.changed)
}

// left says that the agent has said that it leaves: of this incarnation nothing
// more will come.
func (r *Remote) left() bool {
	r.agent.mu.Lock()
	defer r.agent.mu.Unlock()
	return r.agent.last.Left
}

// stillFor is how long the beat has stood still, whatever it says.
func (r *Remote) stillFor() time.Duration {
	r.agent.mu.Lock()
	defer r.agent.mu.Unlock()
	return time.Since(r.agent.changed)
}

// silent is the error of an agent that was heard and is no more.
func (r *Remote) silent() error {
	if s := r.stillFor(); r.Contacted() && s > r.opts.SilentAfter {
		return fmt.Errorf("%w for %s", ErrSilent, s.Round(time.Second))
	}
	return nil
}

// listen follows the agent's beat until ctx ends.
func (r *Remote) listen(ctx context.Context) {
	for wait := contactFirst; ; {
		b, err := exchange.GetJSON[exchange.Beat](ctx, r.store, r.keys.AgentBeat(exchange.FirstHost))
		if err == nil {
			r.agent.heard(b)
		}
		if r.Contacted() {
			wait = listenEvery
		} else {
			wait = min(wait*5/4, contactLast)
		}
		if sleep(ctx, wait) != nil {
			return
		}
	}
}

// Beat renews the executor's sign of life until ctx ends. Every stage of the
// executor runs it, so that the agent does not end itself.
func (r *Remote) Beat(ctx context.Context) {
	nonce := rand.Text()
	for n := uint64(1); ; n++ {
		// An error is the agent's to judge, by our silence.
		_ = exchange.PutJSON(ctx, r.store, r.keys.ExecutorBeat(), exchange.Beat{Sequence: n, Nonce: nonce})
		if sleep(ctx, beatEvery) != nil {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
