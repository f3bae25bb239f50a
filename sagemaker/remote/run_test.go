package remote_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/remote"
)

// watcher is a log that tells when a text has come.
type watcher struct {
	lockedBuffer
	text string
	seen chan struct{}
	once atomic.Bool
}

func newWatcher(text string) *watcher { return &watcher{text: text, seen: make(chan struct{})} }

func (w *watcher) Write(p []byte) (int, error) {
	n, err := w.lockedBuffer.Write(p)
	if strings.Contains(w.String(), w.text) && w.once.CompareAndSwap(false, true) {
		close(w.seen)
	}
	return n, err
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		want   exchange.Result
	}{
		"success":         {"exit 0", exchange.Result{}},
		"1":               {"exit 1", exchange.Result{ExitCode: 1}},
		"42":              {"exit 42", exchange.Result{ExitCode: 42}},
		"137 by itself":   {"exit 137", exchange.Result{ExitCode: 137}},
		"255":             {"exit 255", exchange.Result{ExitCode: 255}},
		"killed":          {"kill -KILL $$", exchange.Result{ExitCode: 137, Signal: "SIGKILL"}},
		"terminated":      {"kill -TERM $$", exchange.Result{ExitCode: 143, Signal: "SIGTERM"}},
		"crashed":         {"kill -SEGV $$", exchange.Result{ExitCode: 139, Signal: "SIGSEGV"}},
		"stdin is empty":  {"cat; exit 5", exchange.Result{ExitCode: 5}},
		"the runner's":    {"trap 'exit 1' TERM\n(eval $'exit 7\\n') < /dev/null\nexit 0", exchange.Result{}},
		"background hold": {"sleep 1000 & exit 6", exchange.Result{ExitCode: 6}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.published(remote.Options{})
			container := w.start("")
			got, err := r.Run(t.Context(), script(c.script), &bytes.Buffer{})
			require.NoError(t, err)
			c.want.Host, c.want.Incarnation = "algo-1", 1
			c.want.MaxRSS, c.want.Started, c.want.Ended = got.MaxRSS, got.Started, got.Ended
			assert.Equal(t, c.want, got)
			assert.Positive(t, got.MaxRSS)
			assert.False(t, got.Ended.Before(got.Started))
			require.NoError(t, r.Finish(t.Context()))
			assert.Equal(t, c.want.ExitCode, container.exit())
			failure, err := os.ReadFile(filepath.Join(container.mlDir, "output", "failure"))
			if c.want.ExitCode == 0 {
				require.ErrorIs(t, err, os.ErrNotExist)
			} else {
				assert.Contains(t, string(failure), fmt.Sprint(c.want.ExitCode))
			}
		})
	}
}

func TestOutputIsByteExact(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	content := make([]byte, 50<<20)
	state := uint32(1)
	for i := range content {
		state = state*1664525 + 1013904223
		content[i] = byte(state >> 24)
	}
	require.NoError(t, os.WriteFile(filepath.Join(w.project, "blob"), content, 0o644))
	r := w.published(remote.Options{})
	w.start("", "X=1")
	hash := sha256.New()
	result, err := r.Run(t.Context(), script("cat blob; printf 'err\\r' >&2; printf end"), hash)
	require.NoError(t, err)
	require.Zero(t, result.ExitCode)
	want := sha256.Sum256(append(content, "err\rend"...))
	assert.Equal(t, want[:], hash.Sum(nil))
	assert.EqualValues(t, len(content)+7, result.LogBytes)
}

func TestOutputComesWhileTheScriptRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.published(remote.Options{})
	w.start("")
	log := newWatcher("ready")
	go func() {
		<-log.seen
		w.release("go")
	}()
	result, err := r.Run(t.Context(), script("echo ready; until [ -e '"+w.gate("go")+"' ]; do sleep 0.05; done; exit 9"), log)
	require.NoError(t, err)
	assert.Equal(t, 9, result.ExitCode)
}

// gate is a file that a script waits for.
func (w *world) gate(name string) string { return filepath.Join(w.tmp, name) }

func (w *world) release(name string) {
	if err := os.WriteFile(w.gate(name), nil, 0o644); err != nil {
		w.t.Error(err)
	}
}

func TestCancelStopsTheScriptAndKeepsTheContainer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		grace  time.Duration
		code   int
		signal string
	}{
		"a script that obeys":         {"trap 'echo stopping; exit 1' TERM; echo ready; sleep 1000 & wait", time.Minute, 1, ""},
		"a script that does not":      {"trap '' TERM; echo ready; sleep 1000", time.Second, 137, "SIGKILL"},
		"a child that left the group": {"trap 'exit 1' TERM; setsid sh -c \"trap '' TERM; sleep 1000\" & echo ready; wait", time.Minute, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.job.StopGrace = exchange.Duration(c.grace)
			r := w.published(remote.Options{StopGrace: c.grace})
			container := w.start("")
			ctx, cancel := context.WithCancelCause(t.Context())
			stopped := errors.New("stopped by GitLab")
			log := newWatcher("ready")
			go func() { <-log.seen; cancel(stopped) }()
			result, err := r.Run(ctx, script(c.script), log)
			require.ErrorIs(t, err, stopped)
			assert.True(t, result.Cancelled)
			assert.Equal(t, c.code, result.ExitCode)
			assert.Equal(t, c.signal, result.Signal)

			after := newWatcher("")
			result, err = r.Run(t.Context(), remote.Step{Stage: "after_script", Script: strings.NewReader("pgrep -f 'sleep 100[0]'; echo here"), FirstHostOnly: true}, after)
			require.NoError(t, err)
			assert.Zero(t, result.ExitCode)
			assert.Contains(t, after.String(), "here")
			require.NoError(t, r.Finish(t.Context()))
			container.exit()
		})
	}
}

// abandon publishes a step whose Run is then killed: nobody waits for the script.
func (w *world) abandon(text string) {
	w.t.Helper()
	store, sum := w.server.Store(), sha256.Sum256([]byte(text))
	key := w.keys.Script(1, "step_script")
	require.NoError(w.t, store.PutBytes(w.t.Context(), key, []byte(text)))
	require.NoError(w.t, exchange.PutJSON(w.t.Context(), store, w.keys.Step(1), exchange.Step{
		Kind: exchange.StepScript, Stage: "step_script", Script: key, SHA256: hex.EncodeToString(sum[:]),
	}))
	require.Eventually(w.t, func() bool { _, err := os.Stat(w.gate("running")); return err == nil }, time.Minute, 20*time.Millisecond)
}

func TestAScriptThatNobodyWaitsForIsStopped(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(*testing.T, *remote.Remote){
		"by the next script": func(t *testing.T, r *remote.Remote) {
			after := newWatcher("")
			result, err := r.Run(t.Context(), remote.Step{Stage: "after_script", Script: strings.NewReader("echo after"), FirstHostOnly: true}, after)
			require.NoError(t, err)
			assert.Zero(t, result.ExitCode)
			assert.Equal(t, "after\n", after.String())
			require.NoError(t, r.Finish(t.Context()))
		},
		"by the finish": func(t *testing.T, r *remote.Remote) { require.NoError(t, r.Finish(t.Context())) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.job.StopGrace = exchange.Duration(time.Second)
			r := w.published(remote.Options{})
			container := w.start("")
			w.abandon("trap '' TERM; touch '" + w.gate("running") + "'; sleep 1000")
			next(t, r)
			assert.Equal(t, 137, container.exit(), "the script was killed, and that is how the training job ends")
			result, err := exchange.GetJSON[exchange.Result](t.Context(), w.server.Store(), w.keys.Result(1, exchange.FirstHost))
			require.NoError(t, err)
			assert.True(t, result.Cancelled)
			assert.Contains(t, w.notices.String(), "step_script has not ended")
		})
	}
}

func TestCancelBeforeTheAgentComesDoesNotWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.published(remote.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped by GitLab")
	go func() {
		for ok := false; !ok; {
			_, err := w.server.Store().Get(t.Context(), w.keys.Step(1))
			ok = err == nil
		}
		cancel(stopped)
	}()
	_, err := r.Run(ctx, script("echo never"), &bytes.Buffer{})
	require.ErrorIs(t, err, stopped)
	assert.False(t, r.Contacted())
}

func TestTheRelayPausesAtItsLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.published(remote.Options{LogLimit: 1000})
	w.start("")
	log := newWatcher("")
	result, err := r.Run(t.Context(), script("seq 1000000; echo the very end; exit 2"), log)
	require.NoError(t, err)
	assert.Equal(t, 2, result.ExitCode)
	assert.True(t, strings.HasPrefix(log.String(), "1\n2\n3\n"))
	assert.True(t, strings.HasSuffix(log.String(), "1000000\nthe very end\n"))
	assert.Less(t, len(log.String()), 40<<10)
	assert.Contains(t, w.notices.String(), "s3://exchange/"+w.keys.StepLog("algo-1", 1, 1))

	require.NoError(t, r.Finish(t.Context()))
	require.NoError(t, r.Delete(t.Context()))
	var left int
	for o, err := range w.server.Store().List(t.Context(), w.keys.All()) {
		require.NoError(t, err)
		assert.Contains(t, o.Key, "/log/")
		left++
	}
	assert.Positive(t, left, "the log stays, as the job log points to it")
}
