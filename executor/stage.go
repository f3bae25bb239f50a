package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/executors/custom/api"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/host"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/job"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/joblog"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/request"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/settings"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/remote"
)

// Stage is what the stages prepare, run and cleanup are given by the process
// that they run in.
type Stage struct {
	Environ []string // as of os.Environ
	// Executable is this program's file: the agent's binary.
	Executable string
	// Stdout is the job log.
	Stdout io.Writer

	silentAfter time.Duration // see sagemaker.Training
}

// getenv looks a variable up; the last of several counts, as in the shell.
func (o Stage) getenv(key string) string {
	value := ""
	for _, entry := range o.Environ {
		if k, v, ok := strings.Cut(entry, "="); ok && k == key {
			value = v
		}
	}
	return value
}

// stage is one call of prepare, run or cleanup.
type stage struct {
	Stage
	job      *job.Job
	settings *settings.Settings
	deadline time.Time // when GitLab's time-out ends the job
	log      *joblog.Log
	out      io.Writer // what scripts write goes here
	host     *host.Host
	dirs     dirs
	clients  *sagemaker.Clients // see aws
}

// open reads what every stage needs: the trusted job, and the settings that
// config resolved.
func open(o Stage) (*stage, error) {
	j, err := job.Load(o.getenv(api.JobResponseFileVariable))
	if err != nil {
		return nil, err
	}
	var s *settings.Settings
	if text := o.getenv(settings.EnvSettings); text != "" {
		s, err = settings.Decode(text)
	} else {
		s, err = settings.LoadDefault(o.Environ)
	}
	if err != nil {
		return nil, err
	}
	j.UseInstance(s.Instance)
	j.UseRunner(o.Environ)
	deadline, err := time.Parse(time.RFC3339, o.getenv(settings.EnvDeadline))
	if err != nil { // without job_env nobody knows when the job began
		deadline = time.Now().Add(j.Timeout)
	}
	log := joblog.New(o.Stdout)
	sandbox := newHost(s, j)
	return &stage{
		Stage: o, job: j, settings: s, deadline: deadline,
		log: log, out: log.Writer(), host: sandbox, dirs: newDirs(sandbox, j),
	}, nil
}

// remaining is what is left of the job's time-out.
func (s *stage) remaining() time.Duration { return max(0, time.Until(s.deadline)) }

// aws makes AWS's clients, once.
func (s *stage) aws(ctx context.Context) (*sagemaker.Clients, error) {
	if s.clients == nil {
		c, err := sagemaker.NewClients(ctx, sagemaker.Options{
			Region: s.settings.Region, EndpointURL: s.settings.EndpointURL,
			LimitDir: filepath.Join(s.settings.WorkDir, "limits"),
		})
		if err != nil {
			return nil, err
		}
		s.clients = c
	}
	return s.clients, nil
}

// training is the owner's training jobs.
func (s *stage) training(c *sagemaker.Clients) *sagemaker.Training {
	return &sagemaker.Training{API: c.SageMaker, Owner: s.owner(), Region: c.Region, Report: s.log, SilentAfter: s.silentAfter}
}

// owner says whose the SageMaker resources of this job are.
func (s *stage) owner() sagemaker.Owner {
	o := sagemaker.Owner{
		Instance: s.job.Instance, ProjectID: s.job.ProjectID, JobID: s.job.ID,
		JobName: s.job.Name, ProjectPath: s.job.ProjectPath, Ref: s.job.Ref, Commit: s.job.SHA,
		Kind:   request.KindTraining,
		Runner: s.getenv("CUSTOM_ENV_CI_RUNNER_SHORT_TOKEN"),
	}
	if s.job.PipelineID != 0 {
		o.PipelineID = strconv.FormatInt(s.job.PipelineID, 10)
	}
	return o
}

// keys are the exchange's keys of an attempt.
func (s *stage) keys(attempt int) exchange.Keys {
	return exchange.Keys{Prefix: exchange.JobPrefix(
		s.settings.Prefix, s.job.Instance, s.job.ProjectID, s.job.Protection(), s.job.ID, attempt)}
}

// store is where the exchange lies.
func (s *stage) store(c *sagemaker.Clients) exchange.Store {
	return exchange.NewS3Store(c.S3, s.settings.Exchange())
}

// remote is the executor's end of an attempt's exchange.
func (s *stage) remote(c *sagemaker.Clients, attempt int) *remote.Remote {
	// Who needs these two has checked them.
	project, _ := s.projectDir()
	uid, gid, _ := s.host.Owner()
	return remote.New(s.store(c), s.keys(attempt), remote.Options{
		LogLimit:    s.settings.Agent.LogLimit,
		StopGrace:   s.settings.Agent.StopGrace.D(),
		Notice:      s.log.Line,
		ProjectPath: project,
		UID:         uid, GID: gid,
	})
}

// newHost is the sandbox on the runner host.
func newHost(s *settings.Settings, j *job.Job) *host.Host {
	o := host.Options{
		Instance: j.Instance, ProjectID: j.ProjectID, Protection: j.Protection(), JobID: j.ID,
		WorkDir: s.WorkDir, BuildsDir: BuildsDir(j.ID), CacheDir: CacheDir,
		Runner: s.Host.Runner, RootFS: s.Host.RootFS, UIDBase: s.Host.UIDBase, UIDCount: s.Host.UIDCount,
		StopGrace: s.Agent.StopGrace.D(), RunnerUnused: !j.NeedsRunner(),
	}
	if s.File != "" {
		o.Hide = append(o.Hide, s.File)
	}
	return host.New(o)
}

// dirs are a job's directories. The names inside are those that the runner's
// scripts hold, in the sandbox and in the container.
type dirs struct {
	base   string // of the job on the runner host
	builds string // builds directory on the runner host
	inside string // builds directory inside
}

func newDirs(h *host.Host, j *job.Job) dirs {
	return dirs{base: filepath.Dir(h.Builds()), builds: h.Builds(), inside: BuildsDir(j.ID)}
}

// projectDir is the project's directory inside. The runner says it by the
// directory for temporary files beside it; that comes through the job's
// variables, so it must lie below the builds directory to be believed.
func (s *stage) projectDir() (string, error) {
	tmp := s.getenv("CUSTOM_ENV_RUNNER_TEMP_PROJECT_DIR")
	if tmp == "" {
		return "", errors.New("CUSTOM_ENV_RUNNER_TEMP_PROJECT_DIR is not set: GitLab Runner sets it for every stage, and a variable of the job must not empty it")
	}
	project, ok := strings.CutSuffix(tmp, ".tmp")
	if !ok || path.Clean(project) != project || !strings.HasPrefix(project, s.dirs.inside+"/") {
		return "", fmt.Errorf("RUNNER_TEMP_PROJECT_DIR is %q and should lie in %s: it must not be set by a variable of the job", tmp, s.dirs.inside)
	}
	return project, nil
}

// roots opens the project's directory and the one for temporary files beside it.
func (s *stage) roots(project string) (*os.Root, *os.Root, error) {
	p, err := s.projectRoot(project)
	if err != nil {
		return nil, nil, err
	}
	tmp, err := s.tmpRoot(project + ".tmp")
	if err != nil {
		p.Close()
		return nil, nil, err
	}
	return p, tmp, nil
}

// tmpRoot opens the directory for temporary files, which the runner's scripts
// make only when they have something to put there.
func (s *stage) tmpRoot(inside string) (*os.Root, error) {
	root, err := s.projectRoot(inside)
	if !errors.Is(err, fs.ErrNotExist) {
		return root, err
	}
	parent, err := s.projectRoot(path.Dir(inside))
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if err := parent.Mkdir(path.Base(inside), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory for temporary files: %w", err)
	}
	if err := s.host.Own(); err != nil {
		return nil, err
	}
	return s.projectRoot(inside)
}

// projectRoot opens a directory inside the builds directory for this process.
// Scripts of the project have been at work there: no link may lead out of it.
func (s *stage) projectRoot(inside string) (*os.Root, error) {
	builds, err := os.OpenRoot(s.dirs.builds)
	if err != nil {
		return nil, fmt.Errorf("open the builds directory: %w", err)
	}
	rel := strings.Trim(strings.TrimPrefix(inside, s.dirs.inside), "/")
	if rel == "" {
		return builds, nil
	}
	defer builds.Close()
	root, err := builds.OpenRoot(rel)
	if err != nil {
		return nil, fmt.Errorf("open the directory %s of the project: %w", inside, err)
	}
	return root, nil
}
