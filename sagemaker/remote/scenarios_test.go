package remote_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange/exchangetest"
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

func TestAnInterruptedInstanceStartsAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.published(remote.Options{})
	first := w.start("")
	log := newWatcher("half way")
	go func() {
		<-log.seen
		_ = first.cmd.Process.Kill()
		<-first.done
		w.start("")
	}()
	gate := w.gate("second")
	result, err := r.Run(t.Context(), script("if [ -e '"+gate+"' ]; then echo resumed; exit 4; fi; touch '"+gate+"'; echo half way; sleep 1000"), log)
	require.NoError(t, err)
	assert.Empty(t, result.Error)
	assert.Equal(t, 4, result.ExitCode)
	assert.Equal(t, 2, result.Incarnation)
	assert.Equal(t, "half way\nresumed\n", log.String())
	assert.Contains(t, w.notices.String(), "starts again")
}

func TestFilesOfAnEndedScriptAreLostWithTheInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.published(remote.Options{})
	first := w.start("")
	_, err := r.Run(t.Context(), script("echo x > out"), &bytes.Buffer{})
	require.NoError(t, err)
	_ = first.cmd.Process.Kill()
	<-first.done
	second := w.start("")
	require.NoError(t, r.Finish(t.Context()))
	_, err = r.Collect(t.Context(), w.root(w.project), w.root(w.tmp))
	require.ErrorIs(t, err, remote.ErrLost)
	assert.NotZero(t, second.exit())
}

// SageMaker is quick to call a job completed when the agent has left.
func TestOutputsComeHomeAfterTheTrainingJobHasEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.job.Artifacts = []exchange.Pattern{{Paths: []string{"out"}}}
	r := w.published(remote.Options{})
	c := w.start("")
	_, err := r.Run(t.Context(), script("echo x > out"), &bytes.Buffer{})
	require.NoError(t, err)
	require.NoError(t, r.Finish(t.Context()))
	require.Zero(t, c.exit())
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fmt.Errorf("%w: Completed", remote.ErrGone))
	require.NoError(t, r.Finish(ctx))
	_, err = r.Collect(ctx, w.root(w.project), w.root(w.tmp))
	require.NoError(t, err)
	assert.Equal(t, "x\n", w.read("out"))

	stopped := errors.New("stopped by GitLab")
	ctx, cancel = context.WithCancelCause(t.Context())
	cancel(stopped)
	_, err = r.Collect(ctx, w.root(w.project), w.root(w.tmp))
	require.ErrorIs(t, err, stopped)
}

func TestAnImageThatCannotRunScriptsIsTheUsersToMend(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.job.Entrypoint = []string{"/none/entrypoint"}
	r := w.published(remote.Options{})
	w.start("")
	result, err := r.Run(t.Context(), script("true"), &bytes.Buffer{})
	require.NoError(t, err)
	assert.Equal(t, "start /none/entrypoint: no such file or directory", result.Error)
	assert.True(t, result.UserError)
}

func TestSetUpThatFailsIsToldInPlaceOfAResult(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.job.MinFree = 1 << 60
	r := w.published(remote.Options{})
	c := w.start("")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-c.done; cancel(fmt.Errorf("%w: AlgorithmError", remote.ErrGone)) }()
	result, err := r.Run(ctx, script("true"), &bytes.Buffer{})
	require.NoError(t, err)
	assert.Contains(t, result.Error, "raise SAGEMAKER_VOLUME_SIZE_GB")
	assert.True(t, result.UserError)
	assert.NotZero(t, c.exit())
}

// SageMaker's SIGTERM may be that of a spot interruption: the next incarnation
// runs the script, so there is no result; but the output is not lost.
func TestAStoppedContainerSendsItsOutputAndNoResult(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.published(remote.Options{})
	c := w.start("")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-c.done; cancel(fmt.Errorf("%w: Stopped", remote.ErrGone)) }()
	log := newWatcher("ready")
	go func() {
		<-log.seen
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
	}()
	result, err := r.Run(ctx, script("trap 'echo saving; exit 1' TERM; echo ready; sleep 1000 & wait"), log)
	require.ErrorIs(t, err, remote.ErrGone)
	assert.Empty(t, result)
	assert.Equal(t, "ready\nsaving\n", log.String())
	assert.NotZero(t, c.exit())
	failure, err := os.ReadFile(filepath.Join(c.mlDir, "output", "failure"))
	require.NoError(t, err)
	assert.Contains(t, string(failure), "SageMaker has stopped the container")
}

func TestAScriptThatWasChangedIsNotRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.published(remote.Options{})
	store := w.server.Store()
	require.NoError(t, store.PutBytes(t.Context(), w.keys.Script(1, "step_script"), []byte("echo changed")))
	require.NoError(t, exchange.PutJSON(t.Context(), store, w.keys.Step(1), exchange.Step{
		Kind: exchange.StepScript, Script: w.keys.Script(1, "step_script"), SHA256: strings.Repeat("0", 64),
	}))
	c := w.start("")
	assert.NotZero(t, c.exit())
	assert.Contains(t, c.stdout.String(), "SHA-256")
	_ = r
}

func TestSecretsAreMaskedForCloudWatchAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.job.Masked = []string{"hunter2"}
	r := w.published(remote.Options{})
	c := w.start("")
	log := newWatcher("")
	_, err := r.Run(t.Context(), script("echo the password is hunter2"), log)
	require.NoError(t, err)
	require.NoError(t, r.Finish(t.Context()))
	require.Zero(t, c.exit())
	assert.Equal(t, "the password is hunter2\n", log.String(), "GitLab masks its own log")
	assert.Contains(t, c.stdout.String(), "the password is [MASKED]\n")
	assert.NotContains(t, c.stdout.String(), "hunter2")
}

// An image without CA roots, with TLS.
func TestAWSCABundleCountsWithoutRootsInTheImage(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, exchangetest.NewTLSServer(t))
	r := w.published(remote.Options{})
	w.start("", "AWS_CA_BUNDLE="+w.server.CA, "SSL_CERT_FILE=/none", "SSL_CERT_DIR=/none")
	result, err := r.Run(t.Context(), script("exit 11"), &bytes.Buffer{})
	require.NoError(t, err)
	assert.Equal(t, 11, result.ExitCode)
}

const twoHosts = `{"current_host":"algo-%d","hosts":["algo-1","algo-2"],"network_interface_name":"eth0"}`

func TestTwoHosts(t *testing.T) {
	t.Parallel()
	step := func(s string) remote.Step {
		return remote.Step{Stage: "step_script", Script: strings.NewReader(s), Hosts: 2}
	}
	for name, c := range map[string]struct {
		script string
		host   string
		code   int
		log    string
	}{
		"both succeed":          {"echo $SM_CURRENT_HOST of $SM_HOSTS", "algo-1", 0, "algo-1 of [\"algo-1\",\"algo-2\"]\n"},
		"the first fails":       {"[ $SM_CURRENT_HOST = algo-2 ] || exit 3", "algo-1", 3, ""},
		"the second fails":      {"[ $SM_CURRENT_HOST = algo-1 ] || exit 4; sleep 1000", "algo-2", 4, ""},
		"the second fails late": {"[ $SM_CURRENT_HOST = algo-1 ] || { sleep 0.3; exit 4; }", "algo-2", 4, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.job.Hosts, w.job.StopGrace = 2, exchange.Duration(time.Second)
			r := w.published(remote.Options{})
			hosts := []*container{w.start(fmt.Sprintf(twoHosts, 1)), w.start(fmt.Sprintf(twoHosts, 2))}
			log := newWatcher("")
			result, err := r.Run(t.Context(), step(c.script), log)
			require.NoError(t, err)
			assert.Equal(t, c.host, result.Host)
			assert.Equal(t, c.code, result.ExitCode)
			assert.Equal(t, c.log, log.String())
			require.NoError(t, r.Finish(t.Context()))
			for i, h := range hosts {
				if fmt.Sprintf("algo-%d", i+1) == c.host {
					assert.Equal(t, c.code, h.exit())
				} else {
					h.exit()
				}
			}
		})
	}
}

func TestTheAgentEndsItselfWhenTheExecutorIsDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.job.DeadAfter = exchange.Duration(2 * time.Second)
	r := w.remote(remote.Options{})
	require.NoError(t, r.Publish(t.Context(), w.job, w.root(w.project), w.root(w.tmp)))
	c := w.start("")
	log := newWatcher("pid")
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := fmt.Errorf("%w: AlgorithmError", remote.ErrGone)
	go func() { <-c.done; cancel(gone) }()
	_, err := r.Run(ctx, script("sleep 1000 & echo pid $!; wait"), log)
	require.ErrorIs(t, err, remote.ErrGone)
	assert.NotZero(t, c.exit())
	var pid int
	_, err = fmt.Sscanf(log.String(), "pid %d", &pid)
	require.NoError(t, err)
	assert.NoDirExists(t, fmt.Sprintf("/proc/%d", pid), "the tree of processes is gone")
	failure, err := os.ReadFile(filepath.Join(c.mlDir, "output", "failure"))
	require.NoError(t, err)
	assert.Contains(t, string(failure), "the executor on the runner host is silent")
}

func TestASilentAgentIsNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.published(remote.Options{SilentAfter: time.Second})
	require.NoError(t, exchange.PutJSON(t.Context(), w.server.Store(), w.keys.AgentBeat("algo-1"), exchange.Beat{Incarnation: 1, Nonce: "x"}))
	_, err := r.Run(t.Context(), script("true"), &bytes.Buffer{})
	require.ErrorIs(t, err, remote.ErrSilent)
	require.ErrorIs(t, r.Finish(t.Context()), remote.ErrSilent)
	_, err = r.Collect(t.Context(), w.root(w.project), w.root(w.tmp))
	require.ErrorIs(t, err, remote.ErrSilent)
}

func TestTheJobGoesOnWhenS3IsGoneForAWhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.published(remote.Options{})
	w.start("")
	log := newWatcher("ready")
	var refused atomic.Int64
	go func() {
		<-log.seen
		w.server.Fail(func(*http.Request) int {
			if refused.Add(1) <= 30 {
				return http.StatusServiceUnavailable
			}
			return 0
		})
		w.release("go")
	}()
	result, err := r.Run(t.Context(), script("echo ready; until [ -e '"+w.gate("go")+"' ]; do sleep 0.05; done; seq 1000; exit 8"), log)
	require.NoError(t, err)
	assert.Equal(t, 8, result.ExitCode)
	assert.True(t, strings.HasSuffix(log.String(), "\n999\n1000\n"))
	assert.Greater(t, refused.Load(), int64(30))
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

func TestDeleteLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.remote(remote.Options{})
	prefix := exchange.AttemptsPrefix("ci", "abc", 7, "open", 401)
	require.NoError(t, r.WriteIntent(t.Context(), exchange.Intent{Name: "job-401-1", Attempt: 1}))
	require.ErrorIs(t, r.WriteIntent(t.Context(), exchange.Intent{Name: "other"}), exchange.ErrExists)
	require.NoError(t, r.Publish(t.Context(), w.job, w.root(w.project), w.root(w.tmp)))
	attempts, err := remote.Intents(t.Context(), w.server.Store(), prefix)
	require.NoError(t, err)
	require.Len(t, attempts, 1)
	assert.Equal(t, "job-401-1", attempts[0].Intent.Name)
	assert.Equal(t, w.keys.All(), attempts[0].Keys.All())
	require.NoError(t, r.Delete(t.Context()))
	require.NoError(t, r.Delete(t.Context()))
	for o, err := range w.server.Store().List(t.Context(), "") {
		require.NoError(t, err)
		assert.Fail(t, o.Key)
	}
	attempts, err = remote.Intents(t.Context(), w.server.Store(), prefix)
	require.NoError(t, err)
	assert.Empty(t, attempts)
}
