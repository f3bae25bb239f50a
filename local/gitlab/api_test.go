package gitlab_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab/gitlabtest"
)

// client speaks the runner's protocol by hand.
type client struct {
	t   *testing.T
	url string
}

func (c client) do(method, path, body string, headers map[string]string) (int, http.Header, string) {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.url+"/api/v4"+path, strings.NewReader(body))
	require.NoError(c.t, err)
	for key, value := range headers {
		request.Header.Set(key, value)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(c.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(c.t, err)
	return response.StatusCode, response.Header, string(text)
}

func (c client) json(method, path string, body map[string]any, headers map[string]string) (int, http.Header, string) {
	c.t.Helper()
	text, err := json.Marshal(body)
	require.NoError(c.t, err)
	return c.do(method, path, string(text), headers)
}

// taken is a coordinator whose only job this test has taken as a runner would.
func taken(t *testing.T) (client, *gitlab.Job, string) {
	t.Helper()
	coordinator := gitlabtest.Coordinator(t, gitlab.Options{})
	c := client{t, coordinator.URL()}
	job, err := coordinator.Enqueue(gitlab.Payload{
		Steps: gitlab.Script("true"), Extra: map[string]any{"hooks": []string{}},
	})
	require.NoError(t, err)
	code, _, body := c.json(http.MethodPost, "/jobs/request", map[string]any{"token": coordinator.RunnerToken()}, nil)
	require.Equal(t, http.StatusCreated, code)
	var payload map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &payload))
	assert.InDelta(t, job.ID(), payload["id"], 0)
	assert.Contains(t, payload, "hooks")
	assert.Equal(t, gitlab.StateRunning, job.State())
	return c, job, "/jobs/" + strconv.FormatInt(job.ID(), 10)
}

func TestRunnerTokens(t *testing.T) {
	t.Parallel()
	coordinator := gitlabtest.Coordinator(t, gitlab.Options{})
	c := client{t, coordinator.URL()}
	for _, call := range []struct{ method, path string }{
		{http.MethodPost, "/runners/verify"},
		{http.MethodDelete, "/runners"},
		{http.MethodDelete, "/runners/managers"},
		{http.MethodPost, "/jobs/request"},
	} {
		code, _, _ := c.json(call.method, call.path, map[string]any{"token": "glrt-wrong"}, nil)
		assert.Equal(t, http.StatusForbidden, code, call.path)
		code, _, _ = c.do(call.method, call.path, "no json", nil)
		assert.Equal(t, http.StatusBadRequest, code, call.path)
	}
	code, _, body := c.json(http.MethodPost, "/runners/verify", map[string]any{"token": coordinator.RunnerToken()}, nil)
	assert.Equal(t, http.StatusOK, code)
	assert.Contains(t, body, coordinator.RunnerToken())
	code, _, body = c.do(http.MethodGet, "/projects", "", nil)
	assert.Equal(t, http.StatusNotFound, code)
	assert.Contains(t, body, "/api/v4/projects")
}

func TestTrace(t *testing.T) {
	t.Parallel()
	c, job, path := taken(t)
	patch := func(token, contentRange, text string) (int, string) {
		code, header, _ := c.do(http.MethodPatch, path+"/trace", text, map[string]string{"JOB-TOKEN": token, "Content-Range": contentRange})
		return code, header.Get("Range")
	}
	code, _ := patch("wrong", "0-2", "abc")
	assert.Equal(t, http.StatusForbidden, code)
	code, _ = patch(job.Token(), "", "abc")
	assert.Equal(t, http.StatusBadRequest, code)

	for _, step := range []struct {
		contentRange, text string
		code               int
		remote             string
	}{
		{"0-2", "abc", http.StatusAccepted, "0-3"},
		{"0-2", "abc", http.StatusRequestedRangeNotSatisfiable, "0-3"}, // again
		{"4-5", "ef", http.StatusRequestedRangeNotSatisfiable, "0-3"},  // a gap
		{"3-9", "de", http.StatusRequestedRangeNotSatisfiable, "0-3"},  // not what it says
		{"3-4", "de", http.StatusAccepted, "0-5"},
	} {
		code, remote := patch(job.Token(), step.contentRange, step.text)
		assert.Equal(t, step.code, code, step)
		assert.Equal(t, step.remote, remote, step)
	}
	assert.Equal(t, "abcde", string(job.Trace()))
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	update := func(c client, path string, job *gitlab.Job, state, checksum string) (int, string) {
		code, header, _ := c.json(http.MethodPut, path, map[string]any{
			"token": job.Token(), "state": state, "failure_reason": "script_failure", "exit_code": 3,
			"output": map[string]any{"checksum": checksum},
		}, nil)
		return code, header.Get("Job-Status")
	}
	t.Run("the checksum must fit", func(t *testing.T) {
		t.Parallel()
		c, job, path := taken(t)
		code, _ := update(c, path, job, "failed", "crc32:12345678")
		assert.Equal(t, http.StatusPreconditionFailed, code)
		assert.Equal(t, gitlab.StateRunning, job.State())
		code, _ = update(c, path, job, "failed", "crc32:00000000")
		assert.Equal(t, http.StatusOK, code)
		result := wait(t, job)
		assert.Equal(t, []any{gitlab.StateFailed, "script_failure", 3}, []any{result.State, result.FailureReason, result.ExitCode})
		code, _ = update(c, path, job, "success", "")
		assert.Equal(t, http.StatusForbidden, code)
		assert.Equal(t, gitlab.StateFailed, job.State())
	})
	t.Run("canceling", func(t *testing.T) {
		t.Parallel()
		c, job, path := taken(t)
		job.Cancel(false)
		code, status := update(c, path, job, "running", "")
		assert.Equal(t, []any{http.StatusOK, "canceling"}, []any{code, status})
		code, _ = update(c, path, job, "failed", "")
		assert.Equal(t, http.StatusOK, code)
		assert.Equal(t, gitlab.StateCanceled, wait(t, job).State)
	})
	t.Run("canceled by force", func(t *testing.T) {
		t.Parallel()
		c, job, path := taken(t)
		job.Cancel(true)
		code, status := update(c, path, job, "running", "")
		assert.Equal(t, []any{http.StatusForbidden, "canceled"}, []any{code, status})
		code, header, _ := c.do(http.MethodPatch, path+"/trace", "abc", map[string]string{"JOB-TOKEN": job.Token(), "Content-Range": "0-2"})
		assert.Equal(t, []any{http.StatusForbidden, "canceled"}, []any{code, header.Get("Job-Status")})
		code, _ = update(c, path, job, "failed", "")
		assert.Equal(t, http.StatusForbidden, code)
		require.NoError(t, job.WaitReleased(deadline(t)))
	})
}

func TestArtifactsNeedAToken(t *testing.T) {
	t.Parallel()
	c, job, path := taken(t)
	code, _, _ := c.do(http.MethodPost, path+"/artifacts", "", map[string]string{"JOB-TOKEN": "wrong"})
	assert.Equal(t, http.StatusForbidden, code)
	code, _, _ = c.do(http.MethodPost, path+"/artifacts", "no form", map[string]string{"JOB-TOKEN": job.Token()})
	assert.Equal(t, http.StatusBadRequest, code)
	code, _, _ = c.do(http.MethodGet, path+"/artifacts", "", map[string]string{"JOB-TOKEN": "wrong"})
	assert.Equal(t, http.StatusForbidden, code)
	code, _, _ = c.do(http.MethodGet, path+"/artifacts", "", map[string]string{"JOB-TOKEN": job.Token()})
	assert.Equal(t, http.StatusNotFound, code, "there are none yet")
	job.Cancel(true)
	code, _, _ = c.do(http.MethodPost, path+"/artifacts", "", map[string]string{"JOB-TOKEN": job.Token()})
	assert.Equal(t, http.StatusForbidden, code, "the job has ended")
}

func TestIDsAreTakenOnce(t *testing.T) {
	t.Parallel()
	coordinator := gitlabtest.Coordinator(t, gitlab.Options{FirstJobID: 7})
	first, err := coordinator.Enqueue(gitlab.Payload{})
	require.NoError(t, err)
	assert.Equal(t, int64(7), first.ID())
	_, err = coordinator.Enqueue(gitlab.Payload{ID: first.ID()})
	require.ErrorContains(t, err, "already")
}

func TestFindRunner(t *testing.T) {
	t.Setenv(gitlab.RunnerEnv, "/nonexistent/runner")
	_, err := gitlab.FindRunner()
	require.ErrorIs(t, err, gitlab.ErrNoRunner)
	require.ErrorContains(t, err, "SAGEMAKER_EXECUTOR_RUNNER=/nonexistent/runner")

	t.Setenv(gitlab.RunnerEnv, "")
	t.Setenv("PATH", t.TempDir())
	_, err = gitlab.FindRunner("/nonexistent/runner")
	require.ErrorIs(t, err, gitlab.ErrNoRunner)
}
