// Package gitlab is a coordinator for GitLab Runner: the part of a GitLab
// server that a runner talks to. It hands queued jobs to a real runner, serves
// git repositories over HTTP, collects the job logs and keeps the artifacts. It
// knows nothing of pipelines: package ci turns a .gitlab-ci.yml into job
// payloads, package pipeline runs them in order.
//
// A test that wants to see what a runner makes of a job needs four steps:
//
//	coordinator, err := gitlab.New(gitlab.Options{Dir: t.TempDir()})
//	defer coordinator.Close()
//	err = coordinator.AddRepository("group/demo", "/path/to/a/git/repository")
//
//	runner, err := gitlab.StartRunner(ctx, gitlab.RunnerOptions{
//		Binary: binary, Coordinator: coordinator, Dir: t.TempDir(),
//		Custom: &gitlab.CustomExecutor{Command: executor, Settings: settings},
//	})
//	defer runner.Stop()
//
//	job, err := coordinator.Enqueue(gitlab.Payload{
//		JobInfo: gitlab.JobInfo{Name: "train", Stage: "test", ProjectFullPath: "group/demo"},
//		GitInfo: gitlab.GitInfo{SHA: sha, Ref: "main"},
//		Steps:   gitlab.Script("echo hello", "exit 42"),
//	})
//	result, err := job.Wait(ctx)     // {State: failed, FailureReason: script_failure, ExitCode: 42}
//	log := job.Trace()               // what the job page would show
//	files := job.Artifacts()         // what was uploaded
//
// What is left empty in a payload is filled in as a GitLab server would: id,
// token, repository address, refspecs, the predefined variables that a runner
// cannot work without. Leave RunnerOptions.Custom empty for the runner's own
// shell executor, the oracle for how a job should look.
//
// The protocol follows the client in the runner's own source (network/gitlab.go,
// network/trace.go and common/spec/spec.go of GitLab Runner 19.4).
package gitlab
