package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

// beatEvery is how often either side renews its sign of life.
const beatEvery = 10 * time.Second

// errExecutorSilent ends the agent: nobody waits for what it does.
var errExecutorSilent = errors.New("the executor on the runner host is silent")

// beat renews the agent's sign of life until ctx ends.
func (a *agent) beat(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for n := uint64(1); ; n++ {
		// An error is told by the other side's silence soon enough.
		_ = exchange.PutJSON(ctx, a.store, a.keys.AgentBeat(a.host), exchange.Beat{Incarnation: a.incarnation, Sequence: n, Nonce: a.nonce})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// leave is the last beat of an agent that ends before it was told to finish:
// the other side need not wait for a silence.
func (a *agent) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatEvery)
	defer cancel()
	// An error is told by the silence.
	_ = exchange.PutJSON(ctx, a.store, a.keys.AgentBeat(a.host), exchange.Beat{Incarnation: a.incarnation, Nonce: a.nonce, Left: true})
}

// watchExecutor is the dead-man's switch: it cancels the agent when the content
// of the executor's beat has not changed for DeadAfter, by this machine's
// monotonic clock. An executor that cannot be heard counts as silent.
func (a *agent) watchExecutor(ctx context.Context, cancel context.CancelCauseFunc) {
	deadAfter := time.Duration(a.job.DeadAfter)
	tick := time.NewTicker(min(beatEvery, deadAfter/4))
	defer tick.Stop()
	var last exchange.Beat
	heard := time.Now()
	for {
		look, stop := context.WithTimeout(ctx, deadAfter/2)
		beat, err := exchange.GetJSON[exchange.Beat](look, a.store, a.keys.ExecutorBeat())
		stop()
		if err == nil && beat != last {
			last, heard = beat, time.Now()
		}
		if silence := time.Since(heard); silence > deadAfter {
			cancel(fmt.Errorf("%w for %s", errExecutorSilent, silence.Round(time.Second)))
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
