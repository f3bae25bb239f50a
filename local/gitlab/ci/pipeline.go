package ci

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// Context is what a pipeline is made for.
type Context struct {
	// Predefined are the variables that GitLab sets for the whole pipeline; see
	// Predefined. They are the weakest.
	Predefined []gitlab.Variable
	// Project are the variables of the project's settings and of the one who
	// starts the pipeline. They are the strongest.
	Project []gitlab.Variable
	// Protected says whether the ref is protected.
	Protected bool
	// LastCommit tells the last commit that changed a path, "" for none.
	LastCommit func(path string) string
}

// Pipeline is the jobs that there are for a commit.
type Pipeline struct {
	Name   string // workflow:name
	Stages []string
	Jobs   []*Job // in the order of their stages
}

// Job is a job of a pipeline.
type Job struct {
	Name              string // with the suffix of parallel:
	Group             string // the name in the file
	Stage             string
	StageIndex        int
	When              string // on_success, on_failure, always, manual
	AllowFailure      bool
	AllowFailureCodes []int
	Retry             Retry
	Tags              []string
	ResourceGroup     string
	// Needs are the jobs that this one waits for; HasNeeds tells an empty
	// needs: from none, in which case it waits for all earlier stages.
	Needs    []*Job
	HasNeeds bool
	// ArtifactsFrom are the jobs whose artifacts and dotenv variables it gets.
	ArtifactsFrom []*Job

	config    *jobConfig
	context   Context
	variables []gitlab.Variable // of the file, weakest first
	node      struct{ index, total int }
}

// AllowsFailure reports whether the pipeline goes on as if nothing had happened
// when the job fails with the exit code.
func (j *Job) AllowsFailure(exitCode int) bool {
	return j.AllowFailure || (exitCode != 0 && slices.Contains(j.AllowFailureCodes, exitCode))
}

// Pipeline evaluates workflow, rules and parallel. An *ErrNoPipeline says that
// there is nothing to run.
func (c *Config) Pipeline(context Context) (*Pipeline, error) {
	if context.LastCommit == nil {
		context.LastCommit = func(string) string { return "" }
	}
	var global, fromWorkflow []gitlab.Variable
	if c.global != nil {
		global, _ = readVariables(c.global, true)
	}
	p := &Pipeline{Stages: c.stages}
	if c.workflow != nil {
		w, err := readWorkflow(c.workflow)
		if err != nil {
			return nil, err
		}
		if w.rules != nil {
			match, err := firstMatch(w.rules, overlay(context.Predefined, global, context.Project))
			switch {
			case err != nil:
				return nil, in("workflow", err)
			case match == nil:
				return nil, &ErrNoPipeline{"no rule of workflow:rules matches"}
			case match.when == "never":
				return nil, &ErrNoPipeline{fmt.Sprintf("the rule of workflow:rules in line %d says never", match.node.line)}
			}
			fromWorkflow = match.variables
		}
		p.Name = expandText(w.name, lookupIn(expandAll(overlay(context.Predefined, global, fromWorkflow, context.Project))))
	}
	if p.Name != "" {
		context.Predefined = append(slices.Clone(context.Predefined), gitlab.Variable{Key: "CI_PIPELINE_NAME", Value: p.Name, Public: true})
	}
	for _, pair := range c.jobs {
		config, err := c.readJob(pair.key, pair.node)
		if err != nil {
			return nil, err
		}
		inherited := slices.DeleteFunc(overlay(global, fromWorkflow), func(v gitlab.Variable) bool {
			return !config.inherit.takesVariable(v.Key)
		})
		jobs, err := c.instances(config, context, inherited)
		if err != nil {
			return nil, err
		}
		p.Jobs = append(p.Jobs, jobs...)
	}
	if len(p.Jobs) == 0 {
		return nil, &ErrNoPipeline{"the rules of all jobs leave none"}
	}
	slices.SortStableFunc(p.Jobs, func(a, b *Job) int { return a.StageIndex - b.StageIndex })
	return p, p.link(c)
}

// instances makes the jobs of one in the file: none, if its rules say so, or
// several, if it is parallel.
func (c *Config) instances(config *jobConfig, context Context, inherited []gitlab.Variable) ([]*Job, error) {
	instances := config.parallel
	if instances == nil {
		instances = []instance{{}}
	}
	var jobs []*Job
	for i, instance := range instances {
		job := &Job{
			Name: config.name, Group: config.name, Stage: config.stage,
			StageIndex: slices.Index(c.stages, config.stage), When: config.when,
			Retry: config.retry, Tags: config.tags, ResourceGroup: config.resource,
			config: config, context: context,
		}
		allow := config.allowFailure
		job.variables = overlay(inherited, config.variables, instance.variables)
		if instance.suffix != "" {
			job.Name = instanceName(config.name, instance)
			job.node.index, job.node.total = i+1, len(instances)
		}
		if config.rules != nil {
			match, err := firstMatch(config.rules, overlay(context.Predefined, job.predefined(), job.variables, context.Project))
			if err != nil {
				return nil, jobError(config.name, err)
			}
			if match == nil || match.when == "never" {
				continue
			}
			setDefault(&match.when, job.When)
			job.When = match.when
			if match.allowFailure != nil {
				allow = match.allowFailure
			}
			job.variables = overlay(job.variables, match.variables)
		} else if job.When == "manual" && allow == nil {
			allow = &allowFailure{any: true}
		}
		if allow != nil {
			job.AllowFailure, job.AllowFailureCodes = allow.any, allow.exitCodes
		}
		lookup := lookupIn(expandAll(overlay(context.Predefined, job.predefined(), job.variables, context.Project)))
		job.Tags = slices.Clone(job.Tags)
		for t := range job.Tags {
			job.Tags[t] = expandText(job.Tags[t], lookup)
		}
		job.ResourceGroup = expandText(job.ResourceGroup, lookup)
		jobs = append(jobs, job)
	}
	return jobs, nil
}

func jobError(job string, err error) error {
	var mistake *Error
	if errors.As(err, &mistake) {
		mistake.Job = job
	}
	return err
}

// link finds the jobs that needs: and dependencies: name.
func (p *Pipeline) link(c *Config) error {
	for _, job := range p.Jobs {
		if err := p.linkNeeds(c, job); err != nil {
			err.Job, err.Keyword = job.Name, "needs"
			return err
		}
		if err := p.linkDependencies(job); err != nil {
			err.Job, err.Keyword = job.Name, "dependencies"
			return err
		}
	}
	return p.circles()
}

func (p *Pipeline) linkNeeds(c *Config, job *Job) *Error {
	if job.config.needs == nil {
		for _, other := range p.Jobs {
			if other.StageIndex < job.StageIndex {
				job.ArtifactsFrom = append(job.ArtifactsFrom, other)
			}
		}
		return nil
	}
	job.HasNeeds = true
	for _, need := range job.config.needs {
		found := p.named(need)
		switch {
		case len(found) == 0 && need.optional:
		case len(found) == 0 && c.hasJob(need.job):
			return need.node.errorf("%q is not in this pipeline, its rules left it out; say optional: true if that is right", need.job)
		case len(found) == 0:
			return need.node.errorf("there is no job %q", need.job)
		}
		for _, other := range found {
			if other.StageIndex > job.StageIndex {
				return need.node.errorf("%q is in a later stage (%s)", need.job, other.Stage)
			}
			if !slices.Contains(job.Needs, other) {
				job.Needs = append(job.Needs, other)
			}
			if need.artifacts && !slices.Contains(job.ArtifactsFrom, other) {
				job.ArtifactsFrom = append(job.ArtifactsFrom, other)
			}
		}
	}
	return nil
}

func (c *Config) hasJob(name string) bool {
	return slices.ContainsFunc(c.jobs, func(p pair) bool { return p.key == name })
}

// named finds the jobs that a need means: one of several parallel jobs by its
// whole name or by its variables, or all of them.
func (p *Pipeline) named(n need) []*Job {
	var found []*Job
	for _, job := range p.Jobs {
		switch {
		case n.instances != nil:
			if job.Group == n.job && slices.ContainsFunc(n.instances, func(i instance) bool { return instanceName(n.job, i) == job.Name }) {
				found = append(found, job)
			}
		case job.Group == n.job, job.Name == n.job:
			found = append(found, job)
		}
	}
	return found
}

func (p *Pipeline) linkDependencies(job *Job) *Error {
	if !job.config.hasDepends {
		return nil
	}
	available := job.ArtifactsFrom
	job.ArtifactsFrom = nil
	for _, name := range job.config.dependencies {
		n := job.config.node.get("dependencies")
		found := p.named(need{job: name})
		if len(found) == 0 {
			return n.errorf("there is no job %q in this pipeline", name)
		}
		for _, other := range found {
			if !slices.Contains(available, other) {
				if job.HasNeeds {
					return n.errorf("%q must be among needs, too", name)
				}
				return n.errorf("%q is in no earlier stage", name)
			}
			job.ArtifactsFrom = append(job.ArtifactsFrom, other)
		}
	}
	return nil
}

// circles looks for jobs that need each other.
func (p *Pipeline) circles() error {
	state := map[*Job]int{}
	var visit func(job *Job) error
	visit = func(job *Job) error {
		switch state[job] {
		case 1:
			err := job.config.node.errorf("needs itself, in a circle")
			err.Job, err.Keyword = job.Name, "needs"
			return err
		case 2:
			return nil
		}
		state[job] = 1
		for _, other := range job.Needs {
			if err := visit(other); err != nil {
				return err
			}
		}
		state[job] = 2
		return nil
	}
	for _, job := range p.Jobs {
		if err := visit(job); err != nil {
			return err
		}
	}
	return nil
}

// predefined are the variables that GitLab sets for this job.
func (j *Job) predefined() []gitlab.Variable {
	public := func(key, value string) gitlab.Variable {
		return gitlab.Variable{Key: key, Value: value, Public: true}
	}
	variables := []gitlab.Variable{
		public("CI_JOB_NAME", j.Name),
		public("CI_JOB_NAME_SLUG", slug(j.Name)),
		public("CI_JOB_STAGE", j.Stage),
		public("CI_JOB_GROUP_NAME", j.Group),
		public("CI_NODE_TOTAL", strconv.Itoa(max(1, j.node.total))),
	}
	if j.node.total > 0 {
		variables = append(variables, public("CI_NODE_INDEX", strconv.Itoa(j.node.index)))
	}
	if j.When == "manual" {
		variables = append(variables, public("CI_JOB_MANUAL", "true"))
	}
	if j.config.image != nil {
		variables = append(variables, public("CI_JOB_IMAGE", j.config.image.Name))
	}
	for _, variable := range j.config.environment {
		variables = append(variables, variable)
		if variable.Key == "CI_ENVIRONMENT_NAME" {
			variables = append(variables, public("CI_ENVIRONMENT_SLUG", slug(variable.Value)))
		}
	}
	return variables
}

// DefaultTimeout is the time-out of jobs that name none, in seconds.
const DefaultTimeout = 3600

// Payload is the job as a runner gets it. The caller adds what belongs to the
// server: git_info, project, dependencies. dotenv are the variables that the
// jobs in ArtifactsFrom left (artifacts:reports:dotenv); runtime are those that
// are known only now (CI_JOB_ID, ...).
func (j *Job) Payload(dotenv, runtime []gitlab.Variable) gitlab.Payload {
	c := j.config
	timeout := c.timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	payload := gitlab.Payload{
		JobInfo:    gitlab.JobInfo{Name: j.Name, Stage: j.Stage},
		RunnerInfo: gitlab.RunnerInfo{Timeout: timeout},
		Variables:  expandAll(overlay(runtime, j.context.Predefined, j.predefined(), j.variables, dotenv, j.context.Project)),
		Steps: []gitlab.Step{{
			Name: "script", Script: append(slices.Clone(c.before), c.script...), Timeout: timeout, When: "on_success",
		}},
		Image: c.image, Services: c.services,
		Artifacts: c.artifacts.all(),
	}
	if len(c.after) > 0 {
		payload.Steps = append(payload.Steps, gitlab.Step{
			Name: "after_script", Script: c.after, Timeout: timeout, When: "always", AllowFailure: true,
		})
	}
	for _, cache := range c.caches {
		if len(cache.Paths) > 0 || cache.Untracked {
			payload.Cache = append(payload.Cache, cache.payload(j.context.Protected, j.context.LastCommit))
		}
	}
	return payload
}

// Image is the job's image with its variables expanded; "" for none.
func (j *Job) Image() string {
	if j.config.image == nil {
		return ""
	}
	lookup := lookupIn(expandAll(overlay(j.context.Predefined, j.predefined(), j.variables, j.context.Project)))
	return expandText(j.config.image.Name, lookup)
}
