package sagemaker

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLimiterHoldsARateAcrossProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()

	synctest.Test(t, func(t *testing.T) {
		rates := map[string]Rate{"Create": {Every: time.Second, Burst: 3}}
		// Two limiters on one directory stand for two processes.
		a, b := must(newLimiter(dir)), must(newLimiter(dir))
		a.rates, b.rates = rates, rates

		start := time.Now()
		for range 12 {
			require.NoError(t, a.wait(t.Context(), "Create"))
			require.NoError(t, b.wait(t.Context(), "Create"))
		}
		took := time.Since(start)
		assert.GreaterOrEqual(t, took, 20*time.Second, "24 requests, 3 of them at once and one more a second")
		assert.LessOrEqual(t, took, 24*time.Second)

		start = time.Now()
		require.NoError(t, a.wait(t.Context(), "Describe"))
		assert.Zero(t, time.Since(start), "an operation without a rate is not held back")
	})
}

func TestLimiterSurvivesAClockSetBackAndRubbish(t *testing.T) {
	t.Parallel()

	tests := map[string][]byte{
		"far future": {0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"short":      {1, 2},
		"empty":      {},
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "CreateTrainingJob.due"), content, 0o600))
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				require.NoError(t, must(newLimiter(dir)).wait(t.Context(), "CreateTrainingJob"))
				assert.Zero(t, time.Since(start))
			})
		})
	}
}

func TestLimiterStopsWaitingWhenCancelled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := must(newLimiter(dir))
		l.rates = map[string]Rate{"Create": {Every: time.Hour / 2}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, l.wait(ctx, "Create"))
		assert.ErrorIs(t, l.wait(ctx, "Create"), context.DeadlineExceeded)
	})
}
