package e2e_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// job is what a test wants to run. What is empty is as GitLab has it for a job
// that says nothing.
type job struct {
	project    string // group/demo
	script     []string
	after      []string
	variables  []gitlab.Variable
	artifacts  []gitlab.Artifact
	caches     []gitlab.Cache
	needs      *pair // downloads this job's archive
	image      *gitlab.Image
	timeout    time.Duration
	timestamps bool // let the runner put its timestamps in front of the lines
	change     func(*gitlab.Payload)
}

// variable is a plain CI/CD variable.
func variable(key, value string) gitlab.Variable {
	return gitlab.Variable{Key: key, Value: value, Public: true}
}

// lines is a script.
func lines(l ...string) []string { return l }

// outcome is what GitLab knows of a job that has ended.
type outcome struct {
	gitlab.Result
	job *gitlab.Job
	log []byte
}

// pair is the same job on both executors.
type pair struct{ ours, oracle outcome }

// maxJob is how long a test waits for one job, on a machine that is busy.
const maxJob = 3 * time.Minute

// payload is the job in the runner's words.
func (j job) payload(s *stack, mark string, needs *gitlab.Job) gitlab.Payload {
	project := j.project
	if project == "" {
		project = "group/demo"
	}
	p := gitlab.Payload{
		JobInfo:   gitlab.JobInfo{Name: mark, Stage: "test", ProjectFullPath: project, PipelineID: 7},
		GitInfo:   gitlab.GitInfo{SHA: s.sources.projects[project].sha, Ref: "main", Depth: 20},
		Steps:     gitlab.Script(j.script...),
		Artifacts: j.artifacts,
		Cache:     j.caches,
		Image:     j.image,
		Variables: append([]gitlab.Variable{variable("E2E_MARK", mark)}, j.variables...),
	}
	if !j.timestamps {
		p.Variables = append(p.Variables, variable("FF_TIMESTAMPS", "false"))
	}
	if j.after != nil {
		p.Steps = append(p.Steps, gitlab.AfterScript(j.after...))
	}
	if j.timeout > 0 {
		p.RunnerInfo.Timeout = int(j.timeout / time.Second)
	}
	if needs != nil {
		if dependency, ok := needs.Dependency(); ok {
			p.Dependencies = append(p.Dependencies, dependency)
		}
	}
	if j.change != nil {
		j.change(&p)
	}
	return p
}

// start puts the job into the queue of the runner with the executor. At the end
// of the test, nothing of the job may be left.
func (s *stack) start(t *testing.T, j job) *gitlab.Job {
	t.Helper()
	var needs *gitlab.Job
	if j.needs != nil {
		needs = j.needs.ours.job
	}
	started, err := s.gitlab.Enqueue(j.payload(s, mark(t), needs))
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), maxJob)
		defer cancel()
		if !started.State().Final() {
			started.Cancel(true)
		}
		assert.NoError(t, started.WaitReleased(ctx))
		s.nothingLeft(t, started)
		if t.Failed() {
			t.Logf("job %d's log:\n%s", started.ID(), readable(started.Trace()))
		}
	})
	return started
}

// end waits for the end of a job.
func end(t *testing.T, j *gitlab.Job) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), maxJob)
	defer cancel()
	result, err := j.Wait(ctx)
	require.NoError(t, err)
	require.NoError(t, j.WaitReleased(ctx))
	return outcome{Result: result, job: j, log: j.Trace()}
}

// run runs a job on the executor alone.
func (s *stack) run(t *testing.T, j job) outcome {
	t.Helper()
	return end(t, s.start(t, j))
}

// both runs the job on both executors and requires that GitLab sees the same.
func both(t *testing.T, j job) pair {
	t.Helper()
	return shared.both(t, j)
}

func (s *stack) both(t *testing.T, j job) pair {
	t.Helper()
	p := s.bothUnlike(t, j)
	same(t, p)
	return p
}

// bothUnlike runs the job on both executors, for a test that compares by itself.
func (s *stack) bothUnlike(t *testing.T, j job) pair {
	t.Helper()
	var needs *gitlab.Job
	if j.needs != nil {
		needs = j.needs.oracle.job
	}
	oracle, err := s.oracleGitlab.Enqueue(j.payload(s, mark(t), needs))
	require.NoError(t, err)
	ours := s.start(t, j)
	p := pair{ours: end(t, ours), oracle: end(t, oracle)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the shell executor's log:\n%s", readable(oracle.Trace()))
		}
	})
	return p
}

// same requires that GitLab saw the same of both jobs.
func same(t *testing.T, p pair) {
	t.Helper()
	assert.Equal(t, p.oracle.State, p.ours.State, "state")
	assert.Equal(t, p.oracle.FailureReason, p.ours.FailureReason, "failure reason")
	assert.Equal(t, p.oracle.ExitCode, p.ours.ExitCode, "exit code")
	for _, name := range []string{"step_script", "after_script"} {
		want, got := placeless(output(p.oracle.log, name)), placeless(output(p.ours.log, name))
		if !strings.HasSuffix(want, "\n") { // the executor's own lines begin on a line of their own
			got = strings.TrimSuffix(got, "\n")
		}
		if len(want) > 4<<10 || len(got) > 4<<10 {
			assert.True(t, want == got, "%s: the output differs (%d bytes, shell executor %d)", name, len(got), len(want))
			continue
		}
		assert.Equal(t, want, got, name)
	}
	theirs, ours := p.oracle.job.Artifacts(), p.ours.job.Artifacts()
	if !assert.Len(t, ours, len(theirs), "number of uploads") {
		return
	}
	for i := range theirs {
		assert.Equal(t, theirs[i].Type, ours[i].Type)
		assert.Equal(t, theirs[i].Filename, ours[i].Filename)
		want, err := theirs[i].Bytes()
		require.NoError(t, err)
		got, err := ours[i].Bytes()
		require.NoError(t, err)
		if theirs[i].Format == "zip" {
			assert.Equal(t, entries(t, want), entries(t, got), "files in %s", theirs[i].Filename)
		}
	}
}

// archive lists the job's archive of artifacts.
func (o outcome) archive(t *testing.T) map[string]entry {
	t.Helper()
	stored, ok := o.job.Artifact(gitlab.ArtifactArchive)
	require.True(t, ok, "there is no archive of artifacts")
	content, err := stored.Bytes()
	require.NoError(t, err)
	return entries(t, content)
}

// placeless takes out where the jobs ran: their directories and ids differ.
func placeless(text string) string { return projectDir.ReplaceAllString(text, "PROJECT") }

var projectDir = regexp.MustCompile(`/[^\s'":]*/builds/[^\s'":]*?/(?:demo|library|parent)\b`)

// readable makes a job log fit for a test's log.
func readable(log []byte) string {
	text := strings.ReplaceAll(string(last(log, 16<<10)), "\r", "␍")
	return strings.ReplaceAll(text, "\x1b", "␛")
}

var (
	marksMu sync.Mutex
	marks   = map[string]int{}
)

// mark is a name that no other job of this run has. Every process of the job has
// it in its environment.
func mark(t *testing.T) string {
	marksMu.Lock()
	defer marksMu.Unlock()
	marks[t.Name()]++
	return fmt.Sprintf("%s #%d", t.Name(), marks[t.Name()])
}
