package remote_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange/exchangetest"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/remote"
)

func TestAnImageThatCannotRunScriptsIsTheUsersToMend(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.job.Entrypoint = []string{"/none/entrypoint"}
	w.job.Image = "example/train:1"
	r := w.published(remote.Options{})
	w.start("")
	result, err := r.Run(t.Context(), script("true"), &bytes.Buffer{})
	require.NoError(t, err)
	assert.Equal(t, "the entrypoint /none/entrypoint cannot be started in the image example/train:1 (no such file or directory): mend SAGEMAKER_ENTRYPOINT or image:entrypoint, or choose another image", result.Error)
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
