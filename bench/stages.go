package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// hostStage compares a stage on the host with the same script without us.
func hostStage(ctx context.Context, e *environment) (_ []figure, err error) {
	s, err := startStack(ctx, e)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	j, _, err := s.newJob(ctx, 1, nil, nil)
	if err != nil {
		return nil, err
	}
	var direct, staged []time.Duration
	for range e.repeat {
		script, err := j.script("direct", "true")
		if err != nil {
			return nil, err
		}
		start := time.Now()
		if err := exec.CommandContext(ctx, "bash", script).Run(); err != nil {
			return nil, err
		}
		direct = append(direct, time.Since(start))
		c, err := j.run(ctx, "prepare_script", "true", nil)
		if err != nil {
			return nil, err
		}
		staged = append(staged, c.wall)
	}
	if _, err := j.cleanup(); err != nil {
		return nil, err
	}
	return []figure{{
		"a host stage, more than its script alone (" + milliseconds(quantile(direct, 0.5)) + ")",
		milliseconds(quantile(staged, 0.5) - quantile(direct, 0.5)), "< 25 ms",
	}}, nil
}

// wholeJob has the real runner run jobs; the script's own time is known.
func wholeJob(ctx context.Context, e *environment) (_ []figure, err error) {
	s, err := startStack(ctx, e)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	sha, err := repository(ctx, filepath.Join(s.dir, "git"))
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"gitlab", "runner"} {
		if err := os.Mkdir(filepath.Join(s.dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	server, err := gitlab.New(gitlab.Options{Dir: filepath.Join(s.dir, "gitlab")})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	if err := server.AddRepository("group/bench", filepath.Join(s.dir, "git")); err != nil {
		return nil, err
	}
	process, err := gitlab.StartRunner(ctx, gitlab.RunnerOptions{
		Binary: e.runner, Coordinator: server, Dir: filepath.Join(s.dir, "runner"),
		Custom: &gitlab.CustomExecutor{Command: e.executor, Settings: s.settings},
		Env:    []string{"AWS_ACCESS_KEY_ID=bench", "AWS_SECRET_ACCESS_KEY=bench", "AWS_EC2_METADATA_DISABLED=true"},
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, process.Stop()) }()

	const script = 5 * time.Second
	var more []time.Duration
	for i := range 6 {
		j, err := server.Enqueue(gitlab.Payload{
			JobInfo: gitlab.JobInfo{Name: "bench", Stage: "test", ProjectFullPath: "group/bench"},
			GitInfo: gitlab.GitInfo{SHA: sha, Ref: "main", Depth: 20},
			Steps:   gitlab.Script(fmt.Sprintf("sleep %d", int(script.Seconds()))),
		})
		if err != nil {
			return nil, err
		}
		result, err := j.Wait(ctx)
		if err != nil {
			return nil, err
		}
		if result.State != "success" {
			return nil, fmt.Errorf("the job ended as %s (%s):\n%s", result.State, result.FailureReason, j.Trace())
		}
		if err := j.WaitReleased(ctx); err != nil {
			return nil, err
		}
		if i > 0 { // the first one uploads the agent's binary for all others
			more = append(more, result.Finished.Sub(result.Started)-script)
		}
	}
	return []figure{{"a job, more than its script, GitLab Runner and git included", seconds(quantile(more, 0.5)), "< 1.5 s"}}, nil
}

// repository makes a git repository with one commit.
func repository(ctx context.Context, dir string) (sha string, err error) {
	git := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir, "-c", "user.name=bench", "-c", "user.email=bench@example.com"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("git %s: %w: %s", args[0], err, out)
		}
		return strings.TrimSpace(string(out)), nil
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "README"), []byte("bench\n"), 0o644); err != nil {
		return "", err
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"commit", "-q", "-m", "bench"}} {
		if _, err := git(args...); err != nil {
			return "", err
		}
	}
	return git("rev-parse", "HEAD")
}

// memory measures each stage of a job with a large workspace, that goes there
// and comes back as an artifact.
func memory(ctx context.Context, e *environment) (_ []figure, err error) {
	s, err := startStack(ctx, e)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	j, calls, err := s.newJob(ctx, 1, []string{"big/"}, nil)
	if err != nil {
		return nil, err
	}
	names := []string{"config", "prepare"}
	for _, stage := range []struct{ name, script string }{
		// What cannot be compressed is the worst case.
		{"get_sources", fmt.Sprintf(`mkdir -p %[1]s/big %[1]s.tmp; for i in {1..16}; do head -c %[2]d /dev/urandom > %[1]s/big/$i; done`, j.project(), e.workspace/16)},
		{"build_script", "cd " + j.project() + "; ls big | wc -l"},
		{"upload_artifacts_on_success", "true"},
		{"cleanup_file_variables", "true"},
	} {
		c, err := j.run(ctx, stage.name, stage.script, nil)
		if err != nil {
			return nil, err
		}
		names, calls = append(names, stage.name), append(calls, c)
	}
	c, err := j.cleanup()
	if err != nil {
		return nil, err
	}
	names, calls = append(names, "cleanup"), append(calls, c)
	var figures []figure
	for i, c := range calls {
		what := "memory of " + names[i]
		if names[i] == "build_script" {
			what += fmt.Sprintf(" (%s there and back in %s)", mebibytes(e.workspace), seconds(c.wall))
		}
		figures = append(figures, figure{what, mebibytes(c.peak), "< 64 MiB"})
	}
	return figures, nil
}
