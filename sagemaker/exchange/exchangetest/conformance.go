package exchangetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

// Conformance holds a Store to the contract of exchange.Store. Each case gets a
// prefix of its own.
func Conformance(t *testing.T, store exchange.Store) {
	for name, test := range map[string]func(*testing.T, exchange.Store, string){
		"a missing object":                  missing,
		"small and empty objects":           small,
		"an object of many parts":           large,
		"a reader that fails":               failing,
		"one winner of a race":              race,
		"our own write, repeated":           repeated,
		"a listing, in order, of a prefix":  listing,
		"deleting what is and what is not":  deleting,
		"keys with blanks and other script": keys,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, store, fmt.Sprintf("conformance/%x/", rand.Int64()))
		})
	}
}

func get(t *testing.T, s exchange.Store, key string) []byte {
	t.Helper()
	r, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return b
}

func missing(t *testing.T, s exchange.Store, prefix string) {
	_, err := s.Get(t.Context(), prefix+"none")
	require.ErrorIs(t, err, exchange.ErrNotFound)
	assert.ErrorContains(t, err, s.URL(prefix+"none"))
}

func small(t *testing.T, s exchange.Store, prefix string) {
	for _, content := range []string{"", "x", "\x00\r\n\xff"} {
		require.NoError(t, s.PutBytes(t.Context(), prefix+"bytes", []byte(content)))
		assert.Equal(t, content, string(get(t, s, prefix+"bytes")))
		require.NoError(t, s.Put(t.Context(), prefix+"stream", bytes.NewReader([]byte(content))))
		assert.Equal(t, content, string(get(t, s, prefix+"stream")))
	}
}

func large(t *testing.T, s exchange.Store, prefix string) {
	const size = 21 << 20 // two whole parts and some
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	require.NoError(t, s.Put(t.Context(), prefix+"large", iotest.HalfReader(bytes.NewReader(content))))
	assert.True(t, bytes.Equal(content, get(t, s, prefix+"large")), "comes back as it was sent")
}

func failing(t *testing.T, s exchange.Store, prefix string) {
	broken := errors.New("the source broke")
	r := io.MultiReader(bytes.NewReader(make([]byte, 20<<20)), iotest.ErrReader(broken))
	require.ErrorIs(t, s.Put(t.Context(), prefix+"half", r), broken)
	_, err := s.Get(t.Context(), prefix+"half")
	require.ErrorIs(t, err, exchange.ErrNotFound, "nothing appears of a half upload")
}

func race(t *testing.T, s exchange.Store, prefix string) {
	var wins, losses atomic.Int64
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			err := s.PutIfAbsent(t.Context(), prefix+"claim", fmt.Appendf(nil, "claimed by %d", n))
			switch {
			case err == nil:
				wins.Add(1)
			case errors.Is(err, exchange.ErrExists):
				losses.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, 1, wins.Load())
	assert.EqualValues(t, 19, losses.Load())
}

func repeated(t *testing.T, s exchange.Store, prefix string) {
	require.NoError(t, s.PutIfAbsent(t.Context(), prefix+"claim", []byte("mine")))
	require.NoError(t, s.PutIfAbsent(t.Context(), prefix+"claim", []byte("mine")))
	require.ErrorIs(t, s.PutIfAbsent(t.Context(), prefix+"claim", []byte("mine, too")), exchange.ErrExists)
	assert.Equal(t, "mine", string(get(t, s, prefix+"claim")))
}

func listing(t *testing.T, s exchange.Store, prefix string) {
	const objects = 1100 // more than a page
	var wg sync.WaitGroup
	for n := range 10 {
		wg.Go(func() {
			for k := n; k < objects; k += 10 {
				assert.NoError(t, s.PutBytes(t.Context(), fmt.Sprintf("%sin/%04d", prefix, k), []byte("x")))
			}
		})
	}
	wg.Wait()
	require.NoError(t, s.PutBytes(t.Context(), prefix+"out", nil))
	k := 0
	for o, err := range s.List(t.Context(), prefix+"in/") {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("%sin/%04d", prefix, k), o.Key)
		require.EqualValues(t, 1, o.Size)
		k++
	}
	assert.Equal(t, objects, k)
}

func deleting(t *testing.T, s exchange.Store, prefix string) {
	require.NoError(t, s.Delete(t.Context()))
	require.NoError(t, s.PutBytes(t.Context(), prefix+"a", nil))
	require.NoError(t, s.PutBytes(t.Context(), prefix+"b", nil))
	require.NoError(t, s.Delete(t.Context(), prefix+"a", prefix+"none"))
	_, err := s.Get(t.Context(), prefix+"a")
	require.ErrorIs(t, err, exchange.ErrNotFound)
	assert.Empty(t, get(t, s, prefix+"b"))
}

func keys(t *testing.T, s exchange.Store, prefix string) {
	key := prefix + "a b/ü+%41/100%"
	require.NoError(t, s.PutBytes(t.Context(), key, []byte("x")))
	assert.Equal(t, "x", string(get(t, s, key)))
	require.NoError(t, s.Delete(t.Context(), key))
	_, err := s.Get(t.Context(), key)
	require.ErrorIs(t, err, exchange.ErrNotFound)
}
