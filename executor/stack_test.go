package executor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	awssagemaker "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/settings"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sagemaker/container"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/cleanenv"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/agent"
)

// TestMain lets the test binary be what the executor's own is elsewhere, the
// agent in the container. (The first process of a sandbox it is by itself.)
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "--version":
			os.Exit(0)
		case "agent":
			os.Exit(runAgent(os.Args[2:]))
		case "run":
			os.Exit(runStage(os.Args[2], os.Args[3]))
		}
	}
	cleanenv.Unset()
	// The runner's own credentials, for all tests alike.
	os.Setenv("AWS_ACCESS_KEY_ID", "key")
	os.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	os.Exit(m.Run())
}

// runStage is the stage run as a process of its own, which can be killed.
func runStage(script, name string) int {
	self, err := os.Executable()
	if err == nil {
		err = Run(context.Background(), RunOptions{
			Stage: Stage{Environ: os.Environ(), Executable: self, Stdout: os.Stdout}, Script: script, Name: name,
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runAgent(args []string) int {
	flags := flag.NewFlagSet("agent", flag.ContinueOnError)
	var o agent.Options
	flags.StringVar(&o.Exchange, "exchange", "", "")
	flags.StringVar(&o.Region, "region", "", "")
	if flags.Parse(args) != nil {
		return 2
	}
	if err := agent.Run(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

const (
	testBucket = "bucket"
	testRole   = "arn:aws:iam::000000000000:role/execution"
	testImage  = "000000000000.dkr.ecr.us-east-1.amazonaws.com/train:1"
)

// stack is a local AWS and what the runner host has.
type stack struct {
	server    *aws.Server
	s3        *s3.Client
	sagemaker *awssagemaker.Client
	work      string // work_dir
	settings  *settings.Settings
}

// newStack starts a local AWS for one test. Everything of it is gone at the
// test's end.
func newStack(t *testing.T, faults string) *stack {
	t.Helper()
	// Not t.TempDir: what scripts leave there may be other users'.
	dir, err := os.MkdirTemp("", "executor-") //nolint:usetesting // see above
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })

	log := logrus.New()
	log.SetOutput(io.Discard)
	server, err := aws.Start(context.Background(), aws.Options{
		Listen: "127.0.0.1:0", Data: filepath.Join(dir, "aws"), Log: log,
		Runtime: container.NewSandbox(filepath.Join(dir, "images.json")),
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Close()) })
	if faults != "" {
		answer, err := http.Post(server.URL+"/_local/faults", "application/json", strings.NewReader(faults))
		require.NoError(t, err)
		defer answer.Body.Close()
		require.Equal(t, http.StatusNoContent, answer.StatusCode)
	}
	config := awssdk.Config{
		Region: "us-east-1", BaseEndpoint: awssdk.String(server.URL),
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	}
	s := &stack{
		server: server, sagemaker: awssagemaker.NewFromConfig(config),
		s3:   s3.NewFromConfig(config, func(o *s3.Options) { o.UsePathStyle = true }),
		work: filepath.Join(dir, "work"),
	}
	_, err = s.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: awssdk.String(testBucket)})
	require.NoError(t, err)

	runner := filepath.Join(dir, "gitlab-runner")
	require.NoError(t, os.WriteFile(runner, []byte("#!/bin/sh\n"), 0o755))
	s.settings = settings.Default()
	s.settings.Region, s.settings.EndpointURL = "us-east-1", server.URL
	s.settings.Bucket, s.settings.Prefix, s.settings.RoleARN = testBucket, "ci", testRole
	s.settings.WorkDir = s.work
	s.settings.Defaults.Image = testImage
	s.settings.Host.Runner = runner
	s.settings.Agent.StopGrace = settings.Duration(2 * time.Second)
	return s
}

// testJob is a CI job as the runner would have it run.
type testJob struct {
	t     *testing.T
	stack *stack
	env   []string
	dir   string
	log   *syncBuffer
}

// job makes a job with variables. Its steps are a script and, if after is set,
// an after_script.
func (s *stack) job(t *testing.T, id int, after bool, artifacts []string, variables map[string]string) *testJob {
	t.Helper()
	steps := []map[string]any{{"name": "script", "script": []string{"x"}}}
	if after {
		steps = append(steps, map[string]any{"name": "after_script", "script": []string{"x"}})
	}
	response := map[string]any{
		"id": id, "token": "secret-token",
		"job_info":    map[string]any{"name": "train", "stage": "test", "project_id": 7, "project_name": "demo"},
		"git_info":    map[string]any{"repo_url": "http://gitlab.example/group/demo.git", "ref": "main", "sha": strings.Repeat("a", 40)},
		"runner_info": map[string]any{"timeout": 3600},
		"steps":       steps,
	}
	if artifacts != nil {
		response["artifacts"] = []map[string]any{{"name": "out", "paths": artifacts, "when": "always", "artifact_type": "archive"}}
	}
	all := []map[string]any{}
	for k, v := range variables {
		all = append(all, map[string]any{"key": k, "value": v})
	}
	response["variables"] = all
	data, err := json.Marshal(response)
	require.NoError(t, err)
	dir := t.TempDir()
	file := filepath.Join(dir, "response.json")
	require.NoError(t, os.WriteFile(file, data, 0o600))
	return &testJob{t: t, stack: s, dir: dir, log: &syncBuffer{}, env: append(os.Environ(),
		"JOB_RESPONSE_FILE="+file,
		settings.EnvSettings+"="+s.settings.Encode(),
		settings.EnvDeadline+"="+time.Now().Add(time.Hour).Format(time.RFC3339),
		fmt.Sprintf("CUSTOM_ENV_RUNNER_TEMP_PROJECT_DIR=/tmp/builds/%d/group/demo.tmp", id),
	)}
}

func (j *testJob) stage() Stage {
	self, err := os.Executable()
	require.NoError(j.t, err)
	return Stage{Environ: j.env, Executable: self, Stdout: j.log, silentAfter: 5 * time.Second}
}

// project is the project's directory inside.
func (j *testJob) project() string {
	for _, entry := range j.env {
		if tmp, ok := strings.CutPrefix(entry, "CUSTOM_ENV_RUNNER_TEMP_PROJECT_DIR="); ok {
			return strings.TrimSuffix(tmp, ".tmp")
		}
	}
	return ""
}

func (j *testJob) run(ctx context.Context, name, script string) error {
	j.t.Helper()
	return Run(ctx, RunOptions{Stage: j.stage(), Script: j.script(name, script), Name: name})
}

// script writes a script as the runner does.
func (j *testJob) script(name, script string) string {
	j.t.Helper()
	file := filepath.Join(j.dir, name)
	require.NoError(j.t, os.WriteFile(file, []byte("#!/usr/bin/env bash\nset -eo pipefail\n"+script+"\n"), 0o700))
	return file
}

// kill runs a stage as a process of its own, and kills it when the log holds a
// text.
func (j *testJob) kill(text, name, script string) {
	j.t.Helper()
	self, err := os.Executable()
	require.NoError(j.t, err)
	cmd := exec.Command(self, "run", j.script(name, script), name)
	cmd.Env, cmd.Stdout, cmd.Stderr = j.env, j.log, j.log
	seen := j.log.until(text)
	require.NoError(j.t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-seen:
	case err := <-ended:
		require.Fail(j.t, "the stage ended before it could be killed", "%v\n%s", err, j.log)
	}
	require.NoError(j.t, cmd.Process.Kill())
	<-ended
}

// start prepares the job and gives it a project with one file.
func (j *testJob) start(ctx context.Context) {
	j.t.Helper()
	require.NoError(j.t, Prepare(ctx, j.stage()), j.log)
	require.NoError(j.t, j.run(ctx, "get_sources", fmt.Sprintf("mkdir -p %[1]s %[1]s.tmp && echo hello > %[1]s/README", j.project())), j.log)
}

// cleanup is the stage, and the proof that it leaves nothing.
func (j *testJob) cleanup() {
	j.t.Helper()
	// The runner's own context is long gone when a job was cancelled.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(j.t, Cleanup(ctx, j.stage()), j.log)
	j.stack.assertClean(j.t)
}

// assertClean checks that no job runs, no exchange is left in S3, and no
// job's directory on the host.
func (s *stack) assertClean(t *testing.T) {
	t.Helper()
	for name, status := range s.jobs(t) {
		assert.NotContains(t, []string{"InProgress", "Stopping"}, status, name)
	}
	assert.Empty(t, s.keys(t, "ci/jobs/"))
	left, err := filepath.Glob(filepath.Join(s.work, "jobs", "*", "*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// jobs are the training jobs' states by name.
func (s *stack) jobs(t *testing.T) map[string]string {
	t.Helper()
	out, err := s.sagemaker.ListTrainingJobs(context.Background(), &awssagemaker.ListTrainingJobsInput{})
	require.NoError(t, err)
	all := map[string]string{}
	for _, j := range out.TrainingJobSummaries {
		all[awssdk.ToString(j.TrainingJobName)] = string(j.TrainingJobStatus)
	}
	return all
}

func (s *stack) keys(t *testing.T, prefix string) []string {
	t.Helper()
	out, err := s.s3.ListObjectsV2(context.Background(), &s3.ListObjectsV2Input{Bucket: awssdk.String(testBucket), Prefix: awssdk.String(prefix)})
	require.NoError(t, err)
	var keys []string
	for _, o := range out.Contents {
		keys = append(keys, awssdk.ToString(o.Key))
	}
	return keys
}

// hostFile is a file of the project on the runner host.
func (j *testJob) hostFile(name string) string {
	found, err := filepath.Glob(filepath.Join(j.stack.work, "jobs", "*", "*", "builds", "group", "demo", name))
	require.NoError(j.t, err)
	if len(found) == 0 {
		return ""
	}
	data, err := os.ReadFile(found[0])
	require.NoError(j.t, err)
	return string(data)
}

// syncBuffer is a job log that can be waited for.
type syncBuffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	wait map[string]chan struct{}
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Write(p)
	for text, ch := range maps.All(s.wait) {
		if strings.Contains(s.b.String(), text) {
			close(ch)
			delete(s.wait, text)
		}
	}
	return len(p), nil
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// until is closed when the log holds a text.
func (s *syncBuffer) until(text string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := make(chan struct{})
	if strings.Contains(s.b.String(), text) {
		close(ch)
		return ch
	}
	if s.wait == nil {
		s.wait = map[string]chan struct{}{}
	}
	s.wait[text] = ch
	return ch
}

// cancelAt runs f with a context that ends when the log holds a text.
func (j *testJob) cancelAt(text string, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(j.t.Context())
	defer cancel()
	seen := j.log.until(text)
	go func() {
		select {
		case <-seen:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := f(ctx)
	if ctx.Err() == nil {
		return errors.Join(err, fmt.Errorf("the log never held %q", text))
	}
	return err
}

// outcome is what GitLab is told: "ok", an exit code, or "system".
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	if b, ok := failure.AsBuild(err); ok {
		return strconv.Itoa(b.Code)
	}
	return "system"
}
