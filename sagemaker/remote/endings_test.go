package remote_test

import (
	"bytes"
	"context"
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
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/remote"
)

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
	beat, err := exchange.GetJSON[exchange.Beat](t.Context(), w.server.Store(), w.keys.AgentBeat(exchange.FirstHost))
	require.NoError(t, err)
	assert.True(t, beat.Left, "nobody has to wait for its silence")
	failure, err := os.ReadFile(filepath.Join(c.mlDir, "output", "failure"))
	require.NoError(t, err)
	assert.Contains(t, string(failure), "SageMaker has stopped the container")
}

// GitLab's cancel reaches a container that SageMaker has just stopped: nobody is
// there who could obey it, and nothing is waited for.
func TestACancelFindsThatTheAgentHasLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.published(remote.Options{StopGrace: time.Hour})
	c := w.start("")
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped by GitLab")
	log := newWatcher("ready")
	go func() {
		<-log.seen
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		<-c.done
		cancel(stopped)
	}()
	_, err := r.Run(ctx, script("trap 'echo saving; exit 1' TERM; echo ready; sleep 1000 & wait"), log)
	require.ErrorIs(t, err, stopped)
	assert.Equal(t, "ready\nsaving\n", log.String())
	assert.NotZero(t, c.exit())
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
