package remote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

// hosts are those other than the first that run a step.
type hosts struct {
	pending []string
	failed  *exchange.Result // of the first that failed
	looked  time.Time
}

func newHosts(step Step) hosts {
	var h hosts
	for n := 2; n <= step.Hosts && !step.FirstHostOnly; n++ {
		h.pending = append(h.pending, fmt.Sprintf("algo-%d", n))
	}
	return h
}

func (h *hosts) done() bool { return len(h.pending) == 0 }

func (h *hosts) firstFailure() *exchange.Result { return h.failed }

// look fetches results, not too often, and says whether a script has failed.
func (h *hosts) look(ctx context.Context, r *Remote, step int) (failed bool, err error) {
	if h.done() || time.Since(h.looked) < pollHosts {
		return h.failed != nil, nil
	}
	h.looked = time.Now()
	var still []string
	for _, host := range h.pending {
		result, err := exchange.GetJSON[exchange.Result](ctx, r.store, r.keys.Result(step, host))
		if errors.Is(err, exchange.ErrNotFound) {
			still = append(still, host)
			continue
		}
		if err != nil {
			return false, err
		}
		if h.failed == nil && (result.Error != "" || result.ExitCode != 0) {
			h.failed = &result
			if result.Host, result.Cancelled = host, false; result.Error == "" {
				r.opts.Notice("The script has failed on host %s (exit code %d) and is stopped on the others.", host, result.ExitCode)
			}
		}
	}
	h.pending = still
	return h.failed != nil, nil
}
