package agent

import (
	"sync"
	"time"
)

const (
	// flushAge is how old output may get before it is sent. Output after a
	// silence of that length is sent after flushFirst already.
	flushAge   = time.Second
	flushFirst = 20 * time.Millisecond

	// Chunks grow under backlog from the first size to the last.
	firstChunk = 256 << 10
	lastChunk  = 8 << 20

	// logSenders is how many chunks are sent at a time.
	logSenders = 3
)

// logWriter cuts a script's output into chunks and sends them, several at a
// time. Write blocks while all senders are busy and the next chunk is full, so
// memory is bounded and nothing is lost.
type logWriter struct {
	send func(chunk int, b []byte)

	mu      sync.Mutex
	changed *sync.Cond
	buf     []byte
	free    [][]byte  // buffers to fill again, so that backlog is not copied as it grows
	limit   int       // size at which a chunk is sent before its time
	sentAt  time.Time // when the last chunk was cut
	timer   *time.Timer
	due     bool
	closed  bool
	chunks  int
	bytes   int64
	wg      sync.WaitGroup
}

// newLogWriter makes a logWriter; send is called concurrently, with chunks
// numbered from 0, and must not keep b.
func newLogWriter(send func(chunk int, b []byte)) *logWriter {
	w := &logWriter{send: send, limit: firstChunk}
	w.changed = sync.NewCond(&w.mu)
	w.timer = time.AfterFunc(time.Hour, w.flushDue)
	w.timer.Stop()
	for range logSenders {
		w.wg.Go(w.sender)
	}
	return w
}

// Write implements io.Writer; it never fails.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		for len(w.buf) >= lastChunk {
			w.changed.Wait()
		}
		if len(w.buf) == 0 {
			w.timer.Reset(max(flushFirst, flushAge-time.Since(w.sentAt)))
		}
		k := min(len(p), lastChunk-len(w.buf))
		w.reserve(k)
		w.buf = append(w.buf, p[:k]...)
		p = p[k:]
		if len(w.buf) >= w.limit {
			w.changed.Broadcast()
		}
	}
	return n, nil
}

// reserve makes room for n more bytes.
func (w *logWriter) reserve(n int) {
	if last := len(w.free) - 1; w.buf == nil && last >= 0 {
		w.buf, w.free = w.free[last], w.free[:last]
	}
	if need := len(w.buf) + n; need > cap(w.buf) {
		size := firstChunk
		if need > size {
			size = lastChunk
		}
		w.buf = append(make([]byte, 0, size), w.buf...)
	}
}

func (w *logWriter) flushDue() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due = true
	w.changed.Broadcast()
}

// sender sends one chunk after the other until the log is closed and empty.
func (w *logWriter) sender() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		ready := len(w.buf) >= w.limit || (w.due && len(w.buf) > 0)
		switch {
		case ready || (w.closed && len(w.buf) > 0):
			w.sendOne()
		case w.closed:
			return
		default:
			w.changed.Wait()
		}
	}
}

// sendOne cuts a chunk and sends it, without the lock.
func (w *logWriter) sendOne() {
	if w.due {
		w.limit = max(firstChunk, w.limit/2)
	} else {
		w.limit = min(lastChunk, w.limit*2)
	}
	b, n := w.buf, w.chunks
	w.buf, w.due, w.sentAt = nil, false, time.Now()
	w.timer.Stop()
	w.chunks++
	w.bytes += int64(len(b))
	w.changed.Broadcast()
	w.mu.Unlock()
	w.send(n, b)
	w.mu.Lock()
	if len(b) >= cap(b)/4 { // else the backlog is over
		w.free = append(w.free, b[:0])
	}
}

// Close sends what is left and says how many chunks and bytes there were.
func (w *logWriter) Close() (chunks int, bytes int64) {
	w.mu.Lock()
	w.closed = true
	w.timer.Stop()
	w.changed.Broadcast()
	w.mu.Unlock()
	w.wg.Wait()
	return w.chunks, w.bytes
}
