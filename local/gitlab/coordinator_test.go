package gitlab_test

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab/gitlabtest"
)

// shell is a coordinator and a runner with the shell executor.
type shell struct {
	*gitlab.Coordinator
	sha    string
	runner *gitlab.RunnerProcess
}

func startShell(t *testing.T, options gitlab.Options, files map[string]string) shell {
	t.Helper()
	coordinator := gitlabtest.Coordinator(t, options)
	if files == nil {
		files = map[string]string{"README": "read me\n"}
	}
	dir, sha := gitlabtest.Repository(t, files)
	require.NoError(t, coordinator.AddRepository("group/demo", dir))
	runner := gitlabtest.StartRunner(t, gitlab.RunnerOptions{Coordinator: coordinator, Concurrent: 2})
	return shell{Coordinator: coordinator, sha: sha, runner: runner}
}

func (s shell) enqueue(t *testing.T, payload gitlab.Payload) *gitlab.Job {
	t.Helper()
	payload.JobInfo.ProjectFullPath = "group/demo"
	payload.GitInfo.SHA = s.sha
	job, err := s.Enqueue(payload)
	require.NoError(t, err)
	return job
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func wait(t *testing.T, job *gitlab.Job) gitlab.Result {
	t.Helper()
	ctx := deadline(t)
	result, err := job.Wait(ctx)
	require.NoError(t, err, "%s", job.Trace())
	require.NoError(t, job.WaitReleased(ctx))
	return result
}

func unzip(t *testing.T, content []byte) map[string]string {
	t.Helper()
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	require.NoError(t, err)
	files := map[string]string{}
	for _, entry := range archive.File {
		reader, err := entry.Open()
		require.NoError(t, err)
		text, err := io.ReadAll(reader)
		require.NoError(t, err)
		files[entry.Name] = string(text)
	}
	return files
}

func TestRunnerRunsJobs(t *testing.T) {
	t.Parallel()
	s := startShell(t, gitlab.Options{}, nil)
	cases := map[string]struct {
		payload gitlab.Payload
		want    gitlab.Result
		log     string
	}{
		"success": {
			payload: gitlab.Payload{Steps: gitlab.Script("cat README")},
			want:    gitlab.Result{State: gitlab.StateSuccess},
			log:     "read me",
		},
		"exit code": {
			payload: gitlab.Payload{Steps: gitlab.Script("exit 42")},
			want:    gitlab.Result{State: gitlab.StateFailed, FailureReason: "script_failure", ExitCode: 42},
			log:     "exit status 42",
		},
		"after_script knows the status": {
			payload: gitlab.Payload{Steps: append(gitlab.Script("exit 3"), gitlab.AfterScript("echo status is $CI_JOB_STATUS"))},
			want:    gitlab.Result{State: gitlab.StateFailed, FailureReason: "script_failure", ExitCode: 3},
			log:     "status is failed",
		},
		"masked variable": {
			payload: gitlab.Payload{
				Steps:     gitlab.Script("echo the secret is $SECRET."),
				Variables: []gitlab.Variable{{Key: "SECRET", Value: "hunter2hunter2", Masked: true}},
			},
			want: gitlab.Result{State: gitlab.StateSuccess},
			log:  "the secret is [MASKED].",
		},
		"time-out": {
			payload: gitlab.Payload{Steps: gitlab.Script("sleep 600"), RunnerInfo: gitlab.RunnerInfo{Timeout: 1}},
			want:    gitlab.Result{State: gitlab.StateFailed, FailureReason: "job_execution_timeout"},
			log:     "execution took longer than 1s",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job := s.enqueue(t, c.payload)
			got := wait(t, job)
			assert.WithinRange(t, got.Finished, got.Started, time.Now())
			got.Started, got.Finished = time.Time{}, time.Time{}
			assert.Equal(t, c.want, got)
			assert.Contains(t, string(job.Trace()), c.log)
		})
	}
}

// talking is a script that never ends and is never silent: the runner asks about
// a silent job only every half minute.
var talking = []string{"echo begin", "while :; do echo tick; sleep 0.2; done"}

func TestCancel(t *testing.T) {
	t.Parallel()
	s := startShell(t, gitlab.Options{}, nil)

	t.Run("gracefully", func(t *testing.T) {
		t.Parallel()
		job := s.enqueue(t, gitlab.Payload{Steps: append(gitlab.Script(talking...), gitlab.AfterScript("echo after $CI_JOB_STATUS"))})
		require.NoError(t, job.WaitTrace(deadline(t), "begin"))
		job.Cancel(false)
		assert.Equal(t, gitlab.StateCanceling, job.State())
		assert.Equal(t, gitlab.StateCanceled, wait(t, job).State)
		assert.Contains(t, string(job.Trace()), "after canceled")
	})
	t.Run("by force", func(t *testing.T) {
		t.Parallel()
		job := s.enqueue(t, gitlab.Payload{Steps: append(gitlab.Script(talking...), gitlab.AfterScript("echo after"))})
		require.NoError(t, job.WaitTrace(deadline(t), "begin"))
		job.Cancel(true)
		assert.Equal(t, gitlab.StateCanceled, job.State())
		assert.Equal(t, gitlab.StateCanceled, wait(t, job).State)
		assert.NotContains(t, string(job.Trace()), "after")
	})
}

func TestCancelBeforeTheRunnerHasIt(t *testing.T) {
	t.Parallel()
	coordinator := gitlabtest.Coordinator(t, gitlab.Options{})
	job, err := coordinator.Enqueue(gitlab.Payload{Steps: gitlab.Script("true")})
	require.NoError(t, err)
	job.Cancel(false)
	assert.Equal(t, gitlab.StateCanceled, wait(t, job).State)
}

func TestArtifactsAndDependencies(t *testing.T) {
	t.Parallel()
	s := startShell(t, gitlab.Options{}, nil)
	first := s.enqueue(t, gitlab.Payload{
		Steps:     gitlab.Script("mkdir out; echo hello >out/file; printf 'A=1\nB = two \n' >build.env"),
		Artifacts: []gitlab.Artifact{gitlab.Archive("out/"), gitlab.DotenvReport("build.env")},
	})
	require.Equal(t, gitlab.StateSuccess, wait(t, first).State, "%s", first.Trace())
	archive, ok := first.Artifact(gitlab.ArtifactArchive)
	require.True(t, ok)
	assert.Equal(t, "artifacts.zip", archive.Filename)
	content, err := archive.Bytes()
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"out/": "", "out/file": "hello\n"}, unzip(t, content))
	variables, err := first.Dotenv()
	require.NoError(t, err)
	assert.Equal(t, []gitlab.Variable{{Key: "A", Value: "1"}, {Key: "B", Value: "two"}}, variables)

	dependency, ok := first.Dependency()
	require.True(t, ok)
	second := s.enqueue(t, gitlab.Payload{Steps: gitlab.Script("cat out/file"), Dependencies: []gitlab.Dependency{dependency}})
	require.Equal(t, gitlab.StateSuccess, wait(t, second).State, "%s", second.Trace())
	assert.Contains(t, string(second.Trace()), "hello")
}

func TestBadDotenvFailsTheJob(t *testing.T) {
	t.Parallel()
	s := startShell(t, gitlab.Options{}, nil)
	job := s.enqueue(t, gitlab.Payload{
		Steps:     gitlab.Script("echo '# comment' >build.env"),
		Artifacts: []gitlab.Artifact{gitlab.DotenvReport("build.env")},
	})
	assert.Equal(t, gitlab.StateFailed, wait(t, job).State)
	assert.Contains(t, string(job.Trace()), "Invalid Format")
}

func TestTooLargeArtifact(t *testing.T) {
	t.Parallel()
	s := startShell(t, gitlab.Options{MaxArtifactSize: 100}, nil)
	job := s.enqueue(t, gitlab.Payload{
		Steps:     gitlab.Script("head -c 10000 /dev/urandom >file"),
		Artifacts: []gitlab.Artifact{gitlab.Archive("file")},
	})
	assert.Equal(t, gitlab.StateFailed, wait(t, job).State)
	assert.Contains(t, string(job.Trace()), "413 Request Entity Too Large")
	assert.Empty(t, job.Artifacts())
}

func TestCache(t *testing.T) {
	t.Parallel()
	s := startShell(t, gitlab.Options{}, nil)
	cache := []gitlab.Cache{{Key: "k", Paths: []string{"cached/"}, Policy: "pull-push", When: "on_success"}}
	first := s.enqueue(t, gitlab.Payload{Steps: gitlab.Script("mkdir cached; echo kept >cached/file"), Cache: cache})
	require.Equal(t, gitlab.StateSuccess, wait(t, first).State, "%s", first.Trace())
	second := s.enqueue(t, gitlab.Payload{Steps: gitlab.Script("cat cached/file"), Cache: cache})
	require.Equal(t, gitlab.StateSuccess, wait(t, second).State, "%s", second.Trace())
	assert.Contains(t, string(second.Trace()), "kept")
}

func TestSubmodules(t *testing.T) {
	t.Parallel()
	coordinator := gitlabtest.Coordinator(t, gitlab.Options{})
	lib, _ := gitlabtest.Repository(t, map[string]string{"file": "of the library\n"})
	require.NoError(t, coordinator.AddRepository("group/lib", lib))
	main, _ := gitlabtest.Repository(t, map[string]string{"README": "main\n"})
	gitlabtest.Git(t, main, "submodule", "--quiet", "add", lib, "relative")
	gitlabtest.Git(t, main, "config", "--file=.gitmodules", "submodule.relative.url", "../lib.git")
	gitlabtest.Git(t, main, "submodule", "--quiet", "add", "--name", "absolute", lib, "absolute")
	gitlabtest.Git(t, main, "config", "--file=.gitmodules", "submodule.absolute.url", coordinator.URL()+"/group/lib.git")
	sha := gitlabtest.Commit(t, main, nil)
	require.NoError(t, coordinator.AddRepository("group/demo", main))
	gitlabtest.StartRunner(t, gitlab.RunnerOptions{Coordinator: coordinator})

	job, err := coordinator.Enqueue(gitlab.Payload{
		JobInfo:   gitlab.JobInfo{ProjectFullPath: "group/demo"},
		GitInfo:   gitlab.GitInfo{SHA: sha},
		Variables: []gitlab.Variable{{Key: "GIT_SUBMODULE_STRATEGY", Value: "recursive", Public: true}},
		Steps:     gitlab.Script("cat relative/file absolute/file"),
	})
	require.NoError(t, err)
	require.Equal(t, gitlab.StateSuccess, wait(t, job).State, "%s", job.Trace())
	assert.Equal(t, 2, strings.Count(string(job.Trace()), "of the library"))
}

// A part of the log that arrived though its answer was lost is sent again; 416
// says where to go on, and nothing is there twice.
func TestTraceIsResumedAfterALostAnswer(t *testing.T) {
	t.Parallel()
	var lost, mismatches atomic.Int32
	middleware := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPatch {
				next.ServeHTTP(w, r)
				return
			}
			recorder := httptest.NewRecorder()
			next.ServeHTTP(recorder, r)
			if recorder.Code == http.StatusRequestedRangeNotSatisfiable {
				mismatches.Add(1)
			}
			if recorder.Code == http.StatusAccepted && lost.CompareAndSwap(0, 1) {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			for key, values := range recorder.Header() {
				w.Header()[key] = values
			}
			w.WriteHeader(recorder.Code)
			_, _ = w.Write(recorder.Body.Bytes())
		})
	}
	s := startShell(t, gitlab.Options{Middleware: middleware}, nil)
	job := s.enqueue(t, gitlab.Payload{Steps: gitlab.Script("echo only once")})
	require.Equal(t, gitlab.StateSuccess, wait(t, job).State)
	assert.Equal(t, int32(1), lost.Load())
	assert.Positive(t, mismatches.Load())
	assert.Equal(t, 1, strings.Count(string(job.Trace()), "only once\n"))
}

func TestRunnerShutdownAbortsJobs(t *testing.T) {
	t.Parallel()
	s := startShell(t, gitlab.Options{}, nil)
	job := s.enqueue(t, gitlab.Payload{Steps: gitlab.Script("echo begin; sleep 600")})
	require.NoError(t, job.WaitTrace(deadline(t), "begin"))
	require.NoError(t, s.runner.Signal(syscall.SIGTERM))
	result := wait(t, job)
	assert.Equal(t, gitlab.StateFailed, result.State)
	assert.Contains(t, string(job.Trace()), "aborted: terminated")
	<-s.runner.Done()
}

func TestGitNeedsTheTokenOfARunningJob(t *testing.T) {
	t.Parallel()
	coordinator := gitlabtest.Coordinator(t, gitlab.Options{})
	dir, _ := gitlabtest.Repository(t, nil)
	require.NoError(t, coordinator.AddRepository("group/demo", dir))
	job, err := coordinator.Enqueue(gitlab.Payload{})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		path, password string
		want           int
	}{
		"no credentials":    {"/group/demo.git/info/refs?service=git-upload-pack", "", http.StatusUnauthorized},
		"wrong token":       {"/group/demo.git/info/refs?service=git-upload-pack", "wrong", http.StatusUnauthorized},
		"job not running":   {"/group/demo.git/info/refs?service=git-upload-pack", job.Token(), http.StatusUnauthorized},
		"push":              {"/group/demo.git/info/refs?service=git-receive-pack", "", http.StatusNotFound},
		"files of the repo": {"/group/demo.git/config", "", http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, coordinator.URL()+c.path, nil)
			require.NoError(t, err)
			if c.password != "" {
				request.SetBasicAuth("gitlab-ci-token", c.password)
			}
			response, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			defer response.Body.Close()
			assert.Equal(t, c.want, response.StatusCode)
		})
	}
}
