package pipeline

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab/gitlabtest"
)

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
	grew chan struct{}
}

func newBuffer() *buffer { return &buffer{grew: make(chan struct{}, 1)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.grew <- struct{}{}:
	default:
	}
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// hostExecutor is a custom executor that runs the scripts as they are: these
// tests are of the pipeline, not of the real executor.
func hostExecutor(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "executor")
	require.NoError(t, os.WriteFile(file, []byte(`#!/usr/bin/env bash
case $1 in
config) printf '{"builds_dir": "%s/builds/%s", "cache_dir": "%s/cache", "job_env": {"SETTINGS": "%s"}}' "`+dir+`" "$$" "`+dir+`" "$3" ;;
prepare) cp "$SETTINGS" "`+dir+`/settings.toml" ;;
run) trap 'kill 0' TERM; bash "$2" </dev/null & wait $!; code=$?
	[ "$code" = 0 ] && exit 0; echo "$code" >"$BUILD_EXIT_CODE_FILE"; exit "$BUILD_FAILURE_EXIT_CODE" ;;
esac
`), 0o755))
	return file
}

// runPipeline runs the files as a repository's pipeline.
func runPipeline(t *testing.T, files map[string]string, change func(*Options)) (out string, artifacts string, err error) {
	t.Helper()
	dir, _ := gitlabtest.Repository(t, files)
	text := newBuffer()
	o := Options{
		Dir: dir, Executor: hostExecutor(t), Runner: gitlabtest.Runner(t),
		Artifacts: filepath.Join(t.TempDir(), "artifacts"), Out: text, Concurrent: 4,
	}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	err = Run(ctx, o)
	t.Logf("%s", text)
	return text.String(), o.Artifacts, err
}

// fields finds a job's line in the closing table.
func fields(t *testing.T, out, job string) []string {
	t.Helper()
	_, table, found := strings.Cut(out, "JOB  ")
	require.True(t, found, "%s", out)
	for line := range strings.Lines(table) {
		if rest, ok := strings.CutPrefix(line, job+" "); ok {
			return strings.Fields(rest)
		}
	}
	t.Fatalf("%s is not in the table:\n%s", job, table)
	return nil
}

func TestAPipelinePasses(t *testing.T) {
	t.Parallel()
	out, artifacts, err := runPipeline(t, map[string]string{
		".gitlab-ci.yml": `
stages: [build, test]
default: {tags: [sagemaker]}
variables: {GREETING: "hello $CI_COMMIT_BRANCH"}
build:
  stage: build
  image: some/image:1
  script:
    - mkdir -p out; echo "$GREETING" >out/greeting; echo "FROM_BUILD=dotenv" >build.env
    - ln -s greeting out/link; printf 'progress 1\rprogress 2\n'
  artifacts: {paths: [out/], reports: {dotenv: build.env}}
test:
  parallel: {matrix: [{N: [one, two]}]}
  script:
    - cat out/greeting; echo "$N $FROM_BUILD $GIVEN"
    - echo "secret is $SECRET"; cat "$FILE"; git log --oneline | head -1; cat lib/file
  variables: {GIT_SUBMODULE_STRATEGY: normal}
  cache: {key: k, paths: [cached]}
warned:
  script: exit 3
  allow_failure: {exit_codes: 3}
never:
  script: exit 1
  when: on_failure
manual:
  script: exit 1
  when: manual
`, "lib/file": "lib\n",
	}, func(o *Options) {
		file := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(file, []byte("content of the file\n"), 0o600))
		o.Variables, o.MaskedVariables, o.VariableFiles = []string{"GIVEN=given"}, []string{"SECRET=hunter2hunter2"}, []string{"FILE=" + file}
		require.NoError(t, os.WriteFile(filepath.Join(o.Dir, "lib", "file"), []byte("changed\n"), 0o600))
	})
	require.NoError(t, err)
	assert.Contains(t, out, "The work tree has changes that are not committed")
	assert.Contains(t, out, "test: [one] | one dotenv given\n")
	assert.Contains(t, out, "test: [two] | hello main\n")
	assert.Contains(t, out, "| secret is [MASKED]\n")
	assert.Contains(t, out, "| content of the file\n")
	assert.Contains(t, out, "| Add files\n"[len("| "):])
	assert.Contains(t, out, "| lib\n")
	assert.Contains(t, out, "| progress 2\n")
	assert.Contains(t, out, "6 jobs\n")
	assert.NotContains(t, out, "section_start")
	assert.NotContains(t, out, "\x1b")
	assert.Contains(t, out, "The pipeline passed.")
	assert.Equal(t, "success", fields(t, out, "build")[0])
	assert.Equal(t, "failed", fields(t, out, "warned")[0])
	assert.Equal(t, []string{"exit", "code", "3,", "allowed", "to", "fail"}, fields(t, out, "warned")[3:])
	assert.Equal(t, "skipped", fields(t, out, "never")[0])
	assert.Equal(t, "manual", fields(t, out, "manual")[0])
	content, err := os.ReadFile(filepath.Join(artifacts, "build", "out", "link"))
	require.NoError(t, err)
	assert.Equal(t, "hello main\n", string(content))
}

func TestAPipelineFails(t *testing.T) {
	t.Parallel()
	out, _, err := runPipeline(t, map[string]string{".gitlab-ci.yml": `
stages: [one, two, three]
bad: {stage: one, script: exit 42, retry: 1}
skipped: {stage: two, script: exit 1}
rescue: {stage: two, script: echo rescued, when: on_failure}
always: {stage: three, script: echo "always there", when: always}
independent: {stage: three, script: echo independent, needs: []}
dependent: {stage: three, script: exit 1, needs: [skipped]}
`}, nil)
	require.ErrorIs(t, err, ErrFailed)
	require.ErrorContains(t, err, "bad")
	assert.Contains(t, out, "bad failed (script_failure): retry 1 of 1")
	assert.Contains(t, strings.Join(fields(t, out, "bad"), " "), "script_failure, exit code 42, retried 1 time")
	for job, want := range map[string]string{
		"bad": "failed", "skipped": "skipped", "rescue": "success", "always": "success", "independent": "success", "dependent": "skipped",
	} {
		assert.Equal(t, want, fields(t, out, job)[0], job)
	}
}

func TestManualJobs(t *testing.T) {
	t.Parallel()
	files := map[string]string{".gitlab-ci.yml": `
gate: {stage: build, script: echo played, rules: [{when: manual}]}
after: {stage: test, script: echo after}
`}
	t.Run("block", func(t *testing.T) {
		t.Parallel()
		out, _, err := runPipeline(t, files, nil)
		require.ErrorContains(t, err, "it waits for the manual job gate")
		assert.Equal(t, "created", fields(t, out, "after")[0])
	})
	t.Run("are played", func(t *testing.T) {
		t.Parallel()
		out, _, err := runPipeline(t, files, func(o *Options) { o.Play = []string{"gate"} })
		require.NoError(t, err)
		assert.Equal(t, "success", fields(t, out, "after")[0])
	})
}

func TestInterruptedPipelineCleansUp(t *testing.T) {
	t.Parallel()
	dir, _ := gitlabtest.Repository(t, map[string]string{".gitlab-ci.yml": "a: {script: 'echo begin; sleep 600'}\nb: {stage: deploy, script: 'true'}\n"})
	text, data := newBuffer(), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	o := Options{Dir: dir, Executor: hostExecutor(t), Runner: gitlabtest.Runner(t), Out: text, Data: data}
	go func() { done <- Run(ctx, o) }()
	for !strings.Contains(text.String(), "begin\n") {
		select {
		case <-text.grew:
		case err := <-done:
			t.Fatalf("ended early: %v\n%s", err, text)
		}
	}
	cancel()
	err := <-done
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, "canceled", fields(t, text.String(), "a")[0])
	assert.Equal(t, "created", fields(t, text.String(), "b")[0])
	assert.FileExists(t, filepath.Join(data, "local.log"))
}

func TestBadPipelines(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		file   string
		change func(*Options)
		want   string
	}{
		"unknown tag":      {"a: {script: x, tags: [gpu]}\n", nil, "job a: there is no runner with the tags gpu; the local runner has sagemaker"},
		"unknown keyword":  {"a: {script: x, colour: red}\n", nil, ".gitlab-ci.yml:1: job a: colour"},
		"unknown ref":      {"a: {script: x}\n", func(o *Options) { o.Ref = "nowhere" }, `there is no commit "nowhere"`},
		"unknown file":     {"a: {script: x}\n", func(o *Options) { o.File = "none.yml" }, "read none.yml: it is not in commit"},
		"no repository":    {"a: {script: x}\n", func(o *Options) { o.Dir = "/" }, "is no git repository"},
		"no directory":     {"a: {script: x}\n", func(o *Options) { o.Dir = "/nonexistent" }, "the git repository: stat /nonexistent: no such file or directory"},
		"no runner":        {"a: {script: x}\n", func(o *Options) { o.Runner = "/nonexistent" }, "the runner: stat /nonexistent"},
		"odd variable":     {"a: {script: x}\n", func(o *Options) { o.Variables = []string{"A"} }, `variable "A": write it as KEY=VALUE`},
		"missing var file": {"a: {script: x}\n", func(o *Options) { o.VariableFiles = []string{"A=/nonexistent"} }, "variable file A: open /nonexistent"},
		"no manual job":    {"a: {script: x}\n", func(o *Options) { o.Play = []string{"b"} }, "play b: there is no manual job"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := runPipeline(t, map[string]string{".gitlab-ci.yml": c.file}, c.change)
			require.ErrorContains(t, err, c.want)
		})
	}
}
