package exchange_test

import (
	"bytes"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange/exchangetest"
)

func TestStores(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]exchange.Store{
		"S3": exchangetest.NewServer(t).Store(), "S3 with TLS": exchangetest.NewTLSServer(t).Store(), "memory": &exchangetest.Memory{},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exchangetest.Conformance(t, store)
		})
	}
}

func TestS3StoreSitsOutAnOutage(t *testing.T) {
	t.Parallel()
	server := exchangetest.NewServer(t)
	store := server.Store()
	require.NoError(t, store.PutBytes(t.Context(), "there", []byte("x")))
	for name, do := range map[string]func() error{
		"write":     func() error { return store.PutBytes(t.Context(), "a", []byte("x")) },
		"upload":    func() error { return store.Put(t.Context(), "b", bytes.NewReader(make([]byte, 20<<20))) },
		"claim":     func() error { return store.PutIfAbsent(t.Context(), "c", []byte("x")) },
		"read":      func() error { r, err := store.Get(t.Context(), "there"); return closed(r, err) },
		"not found": func() error { r, err := store.Get(t.Context(), "none"); return closed(r, err) },
	} {
		var refused atomic.Int64
		server.Fail(func(*http.Request) int {
			if refused.Add(1) <= 3 {
				return http.StatusServiceUnavailable
			}
			return 0
		})
		err := do()
		if name == "not found" {
			require.ErrorIs(t, err, exchange.ErrNotFound)
		} else {
			require.NoError(t, err, name)
		}
		assert.Greater(t, refused.Load(), int64(3), name)
	}
}

// Without permission to list, S3 does not say whether an object exists.
func TestS3StoreTakesForbiddenForMissing(t *testing.T) {
	t.Parallel()
	server := exchangetest.NewServer(t)
	server.Fail(func(*http.Request) int { return http.StatusForbidden })
	_, err := server.Store().Get(t.Context(), "none")
	require.ErrorIs(t, err, exchange.ErrNotFound)
	require.ErrorContains(t, err, "403")
	require.NotErrorIs(t, server.Store().PutBytes(t.Context(), "none", nil), exchange.ErrNotFound)
}

func closed(r io.ReadCloser, err error) error {
	if err != nil {
		return err
	}
	return r.Close()
}

func TestS3StoreTakesABrokenDownloadUpAgain(t *testing.T) {
	t.Parallel()
	server := exchangetest.NewServer(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	require.NoError(t, server.Store().PutBytes(t.Context(), "large", content))
	var cut atomic.Int64
	server.Cut(func(*http.Request) (int64, bool) { return 1 << 20, cut.Add(1) <= 3 })
	r, err := server.Store().Get(t.Context(), "large")
	require.NoError(t, err)
	defer r.Close()
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(content, got), "all of it, once")
	assert.GreaterOrEqual(t, cut.Load(), int64(4))
}

func TestKeys(t *testing.T) {
	t.Parallel()
	prefix := exchange.JobPrefix("ci", "abc", 7, "protected", 401, 2)
	assert.Equal(t, "ci/jobs/abc/7/protected/401-2/", prefix)
	k := exchange.Keys{Prefix: prefix}
	for want, got := range map[string]string{
		"intent.json": k.Intent(), "steps/0003.json": k.Step(3), "steps/0003.cancel": k.Cancel(3),
		"scripts/0003-step_script": k.Script(3, "step_script"), "log/algo-1/2/0003/00000004": k.Chunk("algo-1", 2, 3, 4),
		"result/0003/algo-2.json": k.Result(3, "algo-2"), "": k.All(),
	} {
		assert.Equal(t, prefix+want, got)
	}
	assert.Equal(t, "ci/bin/beef/sagemaker-executor", exchange.BinaryKey("ci", "beef"))
}
