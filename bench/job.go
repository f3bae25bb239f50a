package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/executors/custom/api"
)

// job is a CI job whose stages are called one by one, as the runner calls them.
type job struct {
	stack *stack
	id    int
	dir   string
	env   []string
}

// call is what a stage took.
type call struct {
	wall time.Duration
	peak int64 // resident memory of the stage's own process, in bytes
}

// newJob calls the stages config and prepare.
func (s *stack) newJob(ctx context.Context, id int, artifacts []string, variables map[string]string) (*job, []call, error) {
	response := map[string]any{
		"id": id, "token": "token",
		"job_info":    map[string]any{"name": "bench", "stage": "test", "project_id": 7, "project_name": "bench", "instance_uuid": "bench"},
		"git_info":    map[string]any{"repo_url": "http://gitlab.example/group/bench.git", "ref": "main", "sha": strings.Repeat("a", 40)},
		"runner_info": map[string]any{"timeout": 3600},
		"steps":       []map[string]any{{"name": "script", "script": []string{"bench"}}},
	}
	if artifacts != nil {
		response["artifacts"] = []map[string]any{{"name": "out", "paths": artifacts, "when": "always", "artifact_type": "archive", "artifact_format": "zip"}}
	}
	all := []map[string]any{}
	for k, v := range variables {
		all = append(all, map[string]any{"key": k, "value": v})
	}
	response["variables"] = all
	b, err := json.Marshal(response)
	if err != nil {
		return nil, nil, err
	}
	j := &job{stack: s, id: id}
	if j.dir, err = os.MkdirTemp(s.dir, "job-"); err != nil {
		return nil, nil, err
	}
	file := filepath.Join(j.dir, "response.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return nil, nil, err
	}
	j.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + j.dir, "TMPDIR=" + j.dir,
		"AWS_ACCESS_KEY_ID=bench", "AWS_SECRET_ACCESS_KEY=bench", "AWS_EC2_METADATA_DISABLED=true",
		api.JobResponseFileVariable + "=" + file,
		api.BuildCodeFileVariable + "=" + filepath.Join(j.dir, "code"),
		api.BuildFailureExitCodeVariable + "=1", api.SystemFailureExitCodeVariable + "=2",
	}
	var out bytes.Buffer
	config, err := j.stage(ctx, &out, "config", "--settings", s.settings)
	if err != nil {
		return nil, nil, err
	}
	var driver api.ConfigExecOutput
	if err := json.Unmarshal(out.Bytes(), &driver); err != nil {
		return nil, nil, err
	}
	for k, v := range *driver.JobEnv {
		j.env = append(j.env, k+"="+v)
	}
	j.env = append(j.env, "CUSTOM_ENV_RUNNER_TEMP_PROJECT_DIR="+j.project()+".tmp")
	prepare, err := j.stage(ctx, nil, "prepare")
	return j, []call{config, prepare}, err
}

// project is the project's directory as scripts see it.
func (j *job) project() string { return "/tmp/builds/" + strconv.Itoa(j.id) + "/group/bench" }

// run calls the stage run with a script.
func (j *job) run(ctx context.Context, stage, script string, out io.Writer) (call, error) {
	file, err := j.script(stage, script)
	if err != nil {
		return call{}, err
	}
	return j.stage(ctx, out, "run", file, stage)
}

// script writes commands into a file in the shape of the runner's scripts.
func (j *job) script(name, commands string) (string, error) {
	quoted := "$'" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`).Replace(commands) + "'"
	file := filepath.Join(j.dir, name)
	return file, os.WriteFile(file, []byte("#!/usr/bin/env bash\n\ntrap 'exit 1' TERM\n\n"+
		`case "$(set -o)" in *"pipefail"*) set -o pipefail;; esac; set -o errexit`+"\nset +o noclobber\n"+
		"(trap 'exit 1' TERM; eval "+quoted+") < /dev/null\nexit 0\n"), 0o700)
}

func (j *job) cleanup() (call, error) { return j.stage(context.Background(), nil, "cleanup") }

// stage runs the executor.
func (j *job) stage(ctx context.Context, out io.Writer, args ...string) (call, error) {
	log := &tail{}
	cmd := exec.CommandContext(ctx, j.stack.executor, args...)
	cmd.Env, cmd.Dir = j.env, j.dir
	cmd.Stderr = log
	if out == nil {
		out = log
	}
	cmd.Stdout = out
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return call{}, err
	}
	peak, done := make(chan int64, 1), make(chan struct{})
	go func() { peak <- watchMemory(cmd.Process.Pid, done) }()
	err := cmd.Wait()
	c := call{wall: time.Since(start)}
	close(done)
	c.peak = <-peak
	if err != nil {
		return c, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, log.text)
	}
	return c, nil
}

// memoryEvery is seldom enough not to slow down what is measured.
const memoryEvery = 25 * time.Millisecond

// watchMemory returns the highest resident memory of a process, which the
// kernel keeps; asked now and then, since it goes with the process.
func watchMemory(pid int, done <-chan struct{}) (peak int64) {
	for {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err == nil {
			for line := range strings.Lines(string(b)) {
				if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
					n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kib), " kB"), 10, 64)
					if err == nil {
						peak = max(peak, n<<10)
					}
				}
			}
		} else if errors.Is(err, os.ErrNotExist) {
			return peak
		}
		select {
		case <-done:
			return peak
		case <-time.After(memoryEvery):
		}
	}
}

// tail keeps the end of what is written, for error messages.
type tail struct{ text []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.text = append(t.text, b...)
	if len(t.text) > 1<<16 {
		t.text = t.text[len(t.text)-1<<14:]
	}
	return len(b), nil
}
