package agent

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Chunks are numbered without gaps, none is larger than the largest, and no
// buffer is filled again while it is sent.
func TestLogWriterLosesNothing(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	chunks := map[int][]byte{}
	w := newLogWriter(func(n int, b []byte) {
		kept := bytes.Clone(b)
		mu.Lock()
		defer mu.Unlock()
		assert.Equal(t, sha256.Sum256(kept), sha256.Sum256(b), "the buffer stays as it is")
		chunks[n] = kept
	})
	random := rand.NewChaCha8([32]byte{1})
	var want []byte
	for size := 1; len(want) < 5*lastChunk; size = size*7%(3<<20) + 1 {
		b := make([]byte, size)
		_, _ = random.Read(b)
		want = append(want, b...)
		_, _ = w.Write(b)
	}
	count, size := w.Close()
	assert.Len(t, chunks, count)
	assert.EqualValues(t, len(want), size)
	var got []byte
	for n := range count {
		assert.LessOrEqual(t, len(chunks[n]), lastChunk)
		got = append(got, chunks[n]...)
	}
	assert.True(t, bytes.Equal(want, got))
	assert.LessOrEqual(t, len(w.free), logSenders+1)
	assert.False(t, slices.ContainsFunc(w.free, func(b []byte) bool { return cap(b) > lastChunk }))
}
