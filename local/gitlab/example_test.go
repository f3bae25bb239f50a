package gitlab_test

import (
	"context"
	"fmt"
	"os"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// A job through a real runner's shell executor.
func Example() {
	ctx := context.Background()
	artifacts, _ := os.MkdirTemp("", "artifacts-")
	defer os.RemoveAll(artifacts)
	coordinator, err := gitlab.New(gitlab.Options{Dir: artifacts})
	if err != nil {
		panic(err)
	}
	defer coordinator.Close()

	binary, err := gitlab.FindRunner("build/gitlab-runner")
	if err != nil {
		panic(err)
	}
	work, _ := os.MkdirTemp("", "runner-")
	defer os.RemoveAll(work)
	runner, err := gitlab.StartRunner(ctx, gitlab.RunnerOptions{Binary: binary, Coordinator: coordinator, Dir: work})
	if err != nil {
		panic(err)
	}
	defer runner.Stop()

	job, err := coordinator.Enqueue(gitlab.Payload{
		Variables: []gitlab.Variable{{Key: "GIT_STRATEGY", Value: "none"}},
		Steps:     gitlab.Script("exit 42"),
	})
	if err != nil {
		panic(err)
	}
	result, err := job.Wait(ctx)
	fmt.Println(result.State, result.FailureReason, result.ExitCode, err)
}
