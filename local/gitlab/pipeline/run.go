package pipeline

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab/ci"
)

// gitDepth is GitLab's default for new projects.
const gitDepth = 20

// Run runs the pipeline. It returns nil when it passed, an error that wraps
// ErrFailed when a job failed, and any other error when there was no pipeline to
// speak of. When ctx ends, the running jobs are cancelled and cleaned up after.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.defaults(); err != nil {
		return err
	}
	given, err := o.variables()
	if err != nil {
		return err
	}
	repo, err := openRepository(ctx, o)
	if err != nil {
		return err
	}
	config, err := ci.Load(repo, o.File)
	if err != nil {
		return err
	}
	e, err := startEnvironment(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()

	r := &run{
		options: o, repo: repo, env: e,
		printer: &printer{out: o.Out, color: o.Color == "always"},
		id:      time.Now().Unix(),
	}
	if err := r.plan(config, given); err != nil {
		return err
	}
	if err := r.serveRepository(); err != nil {
		return err
	}
	if err := e.startRunner(ctx, o, r.pipeline.Jobs, r.printer); err != nil {
		return err
	}
	r.loop(ctx)
	r.table()
	return r.verdict(ctx)
}

// run is one pipeline on its way.
type run struct {
	options  Options
	repo     *repository
	env      *environment
	printer  *printer
	id       int64
	pipeline *ci.Pipeline
	schedule *schedule
	width    int // of the names before log lines; 0: none
	problems []error
}

// plan evaluates the configuration.
func (r *run) plan(config *ci.Config, given []gitlab.Variable) (err error) {
	project := ci.Project{
		ID: r.env.coordinator.ProjectID(r.repo.path), Path: r.repo.path,
		URL: r.env.coordinator.URL() + "/" + r.repo.path,
	}
	predefined := append(r.env.coordinator.ServerVariables(), ci.Predefined(project, r.repo.commit, r.id, "push")...)
	if r.pipeline, err = config.Pipeline(ci.Context{
		Predefined: predefined, Project: given,
		Protected: r.repo.commit.Protected, LastCommit: r.repo.lastCommit,
	}); err != nil {
		return err
	}
	for _, job := range r.pipeline.Jobs {
		for _, tag := range job.Tags {
			if !slices.Contains(r.options.Tags, tag) {
				return fmt.Errorf("job %s: there is no runner with the tags %s; the local runner has %s (--tag adds to them)",
					job.Name, strings.Join(job.Tags, ", "), strings.Join(r.options.Tags, ", "))
			}
		}
		r.width = max(r.width, len(job.Name))
	}
	for _, name := range r.options.Play {
		if !slices.ContainsFunc(r.pipeline.Jobs, func(j *ci.Job) bool { return (j.Name == name || j.Group == name) && j.When == "manual" }) {
			return fmt.Errorf("play %s: there is no manual job of that name in the pipeline", name)
		}
	}
	if len(r.pipeline.Jobs) == 1 {
		r.width = 0
	}
	r.schedule = newSchedule(r.pipeline.Jobs, r.options.Play)
	return nil
}

func (r *run) serveRepository() error {
	commit := r.repo.commit
	r.printer.notice("Running the pipeline of %s at %s (%s): %s", commit.Ref(), commit.SHA[:8],
		strings.SplitN(commit.Message, "\n", 2)[0], count(len(r.pipeline.Jobs), "job"))
	if r.repo.dirty {
		r.printer.notice("The work tree has changes that are not committed: they are not part of the pipeline.")
	}
	mirror := filepath.Join(r.env.dir, "repository.git")
	if err := r.repo.mirror(mirror, r.id); err != nil {
		return err
	}
	if err := r.env.coordinator.AddRepository(r.repo.path, mirror); err != nil {
		return err
	}
	for path, dir := range r.repo.submodules() {
		if err := r.env.coordinator.AddRepository(path, dir); err != nil {
			return err
		}
	}
	return nil
}

// ended is what a job's goroutine reports.
type ended struct {
	task   *task
	result gitlab.Result
	err    error
}

// loop runs the jobs until none can run any more.
func (r *run) loop(ctx context.Context) {
	events := make(chan ended)
	running := 0
	interrupted, runnerDone := ctx.Done(), r.env.runner.Done()
	for {
		if ctx.Err() == nil && runnerDone != nil {
			for _, t := range r.schedule.next() {
				if err := r.start(t); err != nil {
					r.problems = append(r.problems, err)
					t.state = gitlab.StateFailed
					continue
				}
				running++
				go func() { events <- r.follow(t) }()
			}
		}
		if running == 0 {
			return
		}
		select {
		case event := <-events:
			running--
			r.handle(ctx, event)
		case <-interrupted:
			interrupted = nil
			r.interrupt()
		case <-runnerDone:
			runnerDone = nil
			if ctx.Err() == nil {
				r.problems = append(r.problems, fmt.Errorf("the runner ended by itself; its log ends:\n%s", lastLines(r.env.runner.Log(), 20)))
			}
			r.cancel(true)
		}
	}
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// interrupt cancels all jobs. The runner is ended as well: told of the cancel
// alone, it would not notice before its next update, up to half a minute later.
func (r *run) interrupt() {
	r.printer.notice("Interrupted: cancelling the jobs and cleaning up.")
	r.cancel(false)
	go func() { _ = r.env.runner.Stop() }()
}

func (r *run) cancel(force bool) {
	for _, t := range r.schedule.tasks {
		if t.running != nil {
			t.running.Cancel(force)
		}
	}
}

// handle takes the end of a job, and tries it again if it wants that.
func (r *run) handle(ctx context.Context, event ended) {
	t := event.task
	t.state, t.result = event.result.State, event.result
	if event.err != nil {
		t.state = gitlab.StateFailed
		r.problems = append(r.problems, event.err)
		return
	}
	if t.state == gitlab.StateFailed && t.job.Retry.Wants(t.retries, t.result.FailureReason, t.result.ExitCode) {
		t.retries++
		t.state = stateCreated
		r.printer.notice("%s failed (%s): retry %d of %d", t.job.Name, t.result.FailureReason, t.retries, t.job.Retry.Max)
		return
	}
	if err := r.keepArtifacts(context.WithoutCancel(ctx), t); err != nil {
		r.problems = append(r.problems, err)
	}
}

// keepArtifacts puts what a job left into its own directory: the artifacts,
// unpacked, and the models of its SageMaker jobs.
func (r *run) keepArtifacts(ctx context.Context, t *task) error {
	if r.options.Artifacts == "" {
		return nil
	}
	dir := filepath.Join(r.options.Artifacts, directoryName(t.job.Name))
	if archive, ok := t.running.Artifact(gitlab.ArtifactArchive); ok {
		if err := unpack(archive.Path, dir); err != nil {
			r.problems = append(r.problems, fmt.Errorf("job %s: %w", t.job.Name, err))
		}
		t.kept = append(t.kept, "artifacts in "+dir)
	}
	models, err := r.env.fetchModels(ctx, t.running.ID(), dir)
	if err != nil {
		return fmt.Errorf("job %s: %w", t.job.Name, err)
	}
	for _, model := range models {
		t.kept = append(t.kept, strings.TrimSuffix(filepath.Base(model), ".tar.gz")+" in "+model)
	}
	return nil
}

// start puts a job into the runner's queue.
func (r *run) start(t *task) error {
	payload, err := r.payload(t)
	if err != nil {
		return err
	}
	t.running, err = r.env.coordinator.Enqueue(payload)
	return err
}

// follow prints a job's log until it ends. The end comes from the runner even
// when the pipeline is being interrupted.
func (r *run) follow(t *task) ended {
	log := newJobLog(r.printer, t.job.Name, r.width, t.number)
	err := t.running.Follow(context.Background(), log)
	log.Close()
	if err != nil {
		return ended{task: t, err: err}
	}
	result, err := t.running.Wait(context.Background())
	return ended{task: t, result: result, err: err}
}

// payload is a job as the runner gets it.
func (r *run) payload(t *task) (gitlab.Payload, error) {
	id := r.env.coordinator.ReserveID()
	token := gitlab.NewJobToken()
	server := r.env.coordinator
	runtime := []gitlab.Variable{
		{Key: "CI_JOB_ID", Value: strconv.FormatInt(id, 10), Public: true},
		{Key: "CI_JOB_URL", Value: fmt.Sprintf("%s/%s/-/jobs/%d", server.URL(), r.repo.path, id), Public: true},
		{Key: "CI_JOB_TOKEN", Value: token, Masked: true},
		{Key: "CI_JOB_STARTED_AT", Value: time.Now().UTC().Format(time.RFC3339), Public: true},
		{Key: "CI_RUNNER_ID", Value: "1", Public: true},
		{Key: "CI_RUNNER_DESCRIPTION", Value: "local", Public: true},
		{Key: "CI_RUNNER_TAGS", Value: `["` + strings.Join(r.options.Tags, `", "`) + `"]`, Public: true},
		{Key: "CI_REPOSITORY_URL", Value: server.RepositoryURL(r.repo.path, token)},
	}
	var dotenv []gitlab.Variable
	var dependencies []gitlab.Dependency
	for _, from := range t.job.ArtifactsFrom {
		other := r.schedule.byJob[from].running
		if other == nil {
			continue // skipped, or manual
		}
		variables, err := other.Dotenv()
		if err != nil {
			return gitlab.Payload{}, fmt.Errorf("job %s: %w", from.Name, err)
		}
		dotenv = append(dotenv, variables...)
		if dependency, ok := other.Dependency(); ok {
			dependencies = append(dependencies, dependency)
		}
	}
	payload := t.job.Payload(dotenv, runtime)
	payload.ID, payload.Token, payload.Dependencies = id, token, dependencies
	payload.JobInfo.PipelineID = r.id
	payload.JobInfo.ProjectFullPath = r.repo.path
	depth := gitDepth
	for _, variable := range payload.Variables {
		if variable.Key == "GIT_DEPTH" {
			if given, err := strconv.Atoi(variable.Value); err == nil && given >= 0 {
				depth = given
			}
		}
	}
	commit := r.repo.commit
	payload.GitInfo = gitlab.GitInfo{
		SHA: commit.SHA, BeforeSHA: commit.BeforeSHA, Ref: commit.Ref(), RefType: "branch",
		Refspecs: r.repo.refspecs(r.id, depth), Depth: depth, Protected: &commit.Protected,
	}
	if commit.Tag != "" {
		payload.GitInfo.RefType = "tag"
	}
	return payload, nil
}
