package remote

import (
	"context"
	"errors"
	"fmt"
	"io"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

// tailSize is how much of the end is printed of a log whose relay has paused.
const tailSize = 32 << 10

// relay copies the output of one step of a host.
type relay struct {
	*Remote
	host string
	step int
	out  io.Writer

	incarnation int
	chunk       int   // the next
	skip        int64 // bytes of it that were relayed already
	relayed     int64
	paused      bool
	finished    bool
}

// follow goes over to a later incarnation: the instance was taken away, and
// the script began anew.
func (l *relay) follow(ctx context.Context, incarnation int) error {
	if incarnation <= l.incarnation {
		return nil
	}
	if l.incarnation > 0 {
		for {
			if more, err := l.next(ctx); err != nil {
				return err
			} else if !more {
				break
			}
		}
		l.opts.Notice("The instance was taken away (managed spot training); the script starts again, in incarnation %d.", incarnation)
	}
	l.incarnation, l.chunk, l.skip = incarnation, 0, 0
	return nil
}

// next relays one chunk, if it is there.
func (l *relay) next(ctx context.Context) (bool, error) {
	if l.paused || l.finished {
		return false, nil
	}
	body, err := l.store.Get(ctx, l.keys.Chunk(l.host, l.incarnation, l.step, l.chunk))
	if errors.Is(err, exchange.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("relay the log: %w", err)
	}
	defer body.Close()
	var from io.Reader = body
	if limit := l.opts.LogLimit; limit > 0 {
		from = io.LimitReader(body, limit-l.relayed)
	}
	n, err := io.Copy(l.out, from)
	l.relayed += n
	if err != nil {
		return false, fmt.Errorf("relay the log: %w", err)
	}
	if l.opts.LogLimit > 0 && l.relayed >= l.opts.LogLimit {
		l.skip = n
		return true, l.pause(ctx)
	}
	l.chunk++
	return true, nil
}

// pause stops the relay at the limit, and keeps the log in S3.
func (l *relay) pause(ctx context.Context) error {
	l.paused = true
	if err := l.store.PutBytes(ctx, l.keys.LogKept(), []byte("kept")); err != nil {
		return fmt.Errorf("relay the log: %w", err)
	}
	l.opts.Notice("The output has reached %d bytes and is not shown further, but for its end; all of it: %s",
		l.relayed, l.store.URL(l.keys.StepLog(l.host, l.incarnation, l.step)))
	return nil
}

// finish relays the rest of a log whose length is known.
func (l *relay) finish(ctx context.Context, result exchange.Result) error {
	if l.finished || result.LogChunks == 0 {
		l.finished = true
		return nil
	}
	if err := l.follow(ctx, result.Incarnation); err != nil {
		return err
	}
	for !l.paused && l.chunk < result.LogChunks {
		if more, err := l.next(ctx); err != nil {
			return err
		} else if !more {
			return fmt.Errorf("relay the log: chunk %d of %d is missing", l.chunk, result.LogChunks)
		}
	}
	l.finished = true
	if l.paused {
		l.opts.Notice("The end of the output:")
		return l.printTail(ctx, result.LogChunks)
	}
	return nil
}

// tail prints the end of a paused log whose length is not known.
func (l *relay) tail(ctx context.Context) error {
	if !l.paused || l.finished {
		return nil
	}
	l.finished = true
	chunks := 0
	for _, err := range l.store.List(ctx, l.keys.StepLog(l.host, l.incarnation, l.step)) {
		if err != nil {
			return fmt.Errorf("relay the log: %w", err)
		}
		chunks++
	}
	l.opts.Notice("The end of the output:")
	return l.printTail(ctx, chunks)
}

// printTail prints the last bytes that were not relayed. Two chunks hold them
// unless the last two are small; then the tail is shorter.
func (l *relay) printTail(ctx context.Context, chunks int) error {
	tail := tailBuffer{max: tailSize}
	for n := max(l.chunk, chunks-2); n < chunks; n++ {
		body, err := l.store.Get(ctx, l.keys.Chunk(l.host, l.incarnation, l.step, n))
		if err != nil {
			return fmt.Errorf("relay the log: %w", err)
		}
		if n == l.chunk {
			_, err = io.CopyN(io.Discard, body, l.skip)
		}
		if err == nil {
			_, err = io.Copy(&tail, body)
		}
		body.Close()
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("relay the log: %w", err)
		}
	}
	_, err := l.out.Write(tail.b)
	return err
}

// tailBuffer keeps the last bytes that were written.
type tailBuffer struct {
	b   []byte
	max int
}

func (t *tailBuffer) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - t.max; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}
