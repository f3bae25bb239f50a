package sagemaker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/smithy-go/middleware"
	"golang.org/x/sys/unix"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
)

// Rate is how often one kind of request may be sent by all processes of a
// host together: one every Every, after a burst of Burst.
type Rate struct {
	Every time.Duration
	Burst int
}

// defaultRates are guesses below what users report as throttled: AWS does not
// publish the rates. A wrong guess costs a wait or a retry.
func defaultRates() map[string]Rate {
	return map[string]Rate{
		"CreateTrainingJob":   {Every: 500 * time.Millisecond, Burst: 10},
		"DescribeTrainingJob": {Every: 200 * time.Millisecond, Burst: 25},
		"StopTrainingJob":     {Every: 500 * time.Millisecond, Burst: 10},
	}
}

// limiter holds back requests so that the processes of a host stay below a
// rate together. Each kind of request has a file holding the time when the
// next one is due, changed under a lock that lives no longer than the change:
// a process that dies cannot hold the others up.
type limiter struct {
	dir   string
	rates map[string]Rate
	now   func() time.Time
}

// newLimiter returns a limiter on files in dir, which it makes.
func newLimiter(dir string) (*limiter, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the rate limit: %w", err)
	}
	return &limiter{dir: dir, rates: defaultRates(), now: time.Now}, nil
}

// wait returns when a request of this kind may be sent.
func (l *limiter) wait(ctx context.Context, operation string) error {
	rate, ok := l.rates[operation]
	if !ok {
		return nil
	}
	due, err := l.reserve(operation, rate)
	if err != nil {
		return fmt.Errorf("rate limit of %s: %w", operation, err)
	}
	d := due.Sub(l.now())
	if d <= 0 {
		return ctx.Err()
	}
	return sleep(ctx, d+rand.N(rate.Every/4))
}

// reserve takes the next free time (the generic cell rate algorithm).
func (l *limiter) reserve(operation string, rate Rate) (time.Time, error) {
	f, err := os.OpenFile(filepath.Join(l.dir, operation+".due"), os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close() // drops the lock
	if err := flock(f); err != nil {
		return time.Time{}, err
	}
	now := l.now()
	next := now // when the bucket would be full again, less the burst
	var b [8]byte
	if _, err := f.ReadAt(b[:], 0); err == nil {
		stored := time.Unix(0, int64(binary.BigEndian.Uint64(b[:])))
		// A clock that was set back must not stop everybody for hours.
		if stored.After(now) && stored.Before(now.Add(time.Hour)) {
			next = stored
		}
	} else if !errors.Is(err, io.EOF) {
		return time.Time{}, err
	}
	binary.BigEndian.PutUint64(b[:], uint64(next.Add(rate.Every).UnixNano()))
	if _, err := f.WriteAt(b[:], 0); err != nil {
		return time.Time{}, err
	}
	return next.Add(-rate.Every * time.Duration(rate.Burst)), nil
}

// flock locks a file; the lock is held for microseconds, so it is waited for
// without a context.
func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// middleware puts the limit in front of every attempt of a request, those that
// the SDK repeats included.
func (l *limiter) middleware(stack *middleware.Stack) error {
	m := middleware.FinalizeMiddlewareFunc("HostRateLimit", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		if err := l.wait(ctx, awsmiddleware.GetOperationName(ctx)); err != nil {
			return middleware.FinalizeOutput{}, middleware.Metadata{}, &unsentError{err}
		}
		return next.HandleFinalize(ctx, in)
	})
	return stack.Finalize.Insert(m, "Retry", middleware.After)
}

// sleep waits for a duration or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
