package gitlab

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Options sets up a coordinator.
type Options struct {
	// Dir is where artifacts are kept. It must exist and is the caller's to
	// remove.
	Dir string
	// Listen is the address to listen on; empty is a free port of 127.0.0.1.
	Listen string
	// InstanceUUID is what job_info.instance_uuid says. Empty is a new one.
	InstanceUUID string
	// FirstJobID is the id of the first job; 0 is 1001.
	FirstJobID int64
	// TraceUpdateInterval is how often the runner shall send its log, in whole
	// seconds (X-GitLab-Trace-Update-Interval); 0 is a second. The first part
	// comes after the runner's own three seconds all the same.
	TraceUpdateInterval time.Duration
	// MaxArtifactSize is the size above which an upload gets 413; 0 is no limit.
	MaxArtifactSize int64
	// Middleware, if set, stands in front of the whole server. Tests inject
	// faults with it.
	Middleware func(http.Handler) http.Handler
	// Log gets a line for each request; nil is silence.
	Log logrus.FieldLogger
}

// Coordinator is the running server.
type Coordinator struct {
	options     Options
	runnerToken string
	server      *http.Server
	url         string
	closing     chan struct{}
	closeOnce   sync.Once
	served      chan struct{}

	mu           sync.Mutex
	jobs         map[int64]*Job
	queue        []*Job
	enqueued     chan struct{} // closed and replaced when the queue grows
	nextID       int64
	repositories map[string]string // project path -> directory
	projectIDs   map[string]int64
}

// New starts a coordinator. Close ends it.
func New(options Options) (*Coordinator, error) {
	if info, err := os.Stat(options.Dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("coordinator: %q is not a directory for the artifacts", options.Dir)
	}
	if options.Listen == "" {
		options.Listen = "127.0.0.1:0"
	}
	if options.InstanceUUID == "" {
		options.InstanceUUID = newUUID()
	}
	if options.FirstJobID <= 0 {
		options.FirstJobID = 1001
	}
	if options.TraceUpdateInterval <= 0 {
		options.TraceUpdateInterval = time.Second
	}
	if options.Log == nil {
		silent := logrus.New()
		silent.SetOutput(io.Discard)
		options.Log = silent
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", options.Listen)
	if err != nil {
		return nil, fmt.Errorf("coordinator: listen on %s: %w", options.Listen, err)
	}
	c := &Coordinator{
		options:      options,
		runnerToken:  "glrt-" + randomHex(10),
		url:          "http://" + listener.Addr().String(),
		closing:      make(chan struct{}),
		served:       make(chan struct{}),
		jobs:         map[int64]*Job{},
		enqueued:     make(chan struct{}),
		nextID:       options.FirstJobID - 1,
		repositories: map[string]string{},
		projectIDs:   map[string]int64{},
	}
	handler := c.routes()
	if options.Middleware != nil {
		handler = options.Middleware(handler)
	}
	c.server = &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() {
		defer close(c.served)
		if err := c.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			options.Log.WithError(err).Error("coordinator: serve")
		}
	}()
	return c, nil
}

// URL is the server's address, without a slash at the end.
func (c *Coordinator) URL() string { return c.url }

// RunnerToken is the authentication token for a runner's config.toml.
func (c *Coordinator) RunnerToken() string { return c.runnerToken }

// Close stops the server and waits until it no longer serves.
func (c *Coordinator) Close() error {
	c.closeOnce.Do(func() { close(c.closing) })
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := c.server.Shutdown(ctx); err != nil {
		_ = c.server.Close()
	}
	<-c.served
	return nil
}

// AddRepository serves the git repository in dir (bare, or one with a work tree)
// as the project with that full path ("group/demo"), over HTTP, for reading.
func (c *Coordinator) AddRepository(projectPath, dir string) error {
	for _, candidate := range []string{filepath.Join(dir, ".git"), dir} {
		if _, err := os.Stat(filepath.Join(candidate, "HEAD")); err == nil {
			dir = candidate
			break
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); err != nil {
		return fmt.Errorf("project %s: %q is no git repository: %w", projectPath, dir, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.repositories[projectPath] = dir
	return nil
}

// ReserveID gives an id that no other job has or will get, for a payload that
// names its own id.
func (c *Coordinator) ReserveID() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nextID++
	return c.nextID
}

// Enqueue puts a job into the queue. What the payload leaves empty is filled in.
func (c *Coordinator) Enqueue(payload Payload) (*Job, error) {
	if payload.ID == 0 {
		payload.ID = c.ReserveID()
	}
	c.complete(&payload)
	job := newJob(payload)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.jobs[payload.ID]; taken {
		return nil, fmt.Errorf("enqueue: there is a job %d already", payload.ID)
	}
	c.jobs[payload.ID] = job
	c.queue = append(c.queue, job)
	close(c.enqueued)
	c.enqueued = make(chan struct{})
	return job, nil
}

// Job finds a job by its id; nil when there is none.
func (c *Coordinator) Job(id int64) *Job {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.jobs[id]
}

// ProjectID is the id that the coordinator gave to a project path.
func (c *Coordinator) ProjectID(projectPath string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.projectIDs[projectPath]; !known {
		c.projectIDs[projectPath] = int64(len(c.projectIDs) + 1)
	}
	return c.projectIDs[projectPath]
}

// RepositoryURL is the address of a project's repository as job payloads have
// it, with the job's token in it.
func (c *Coordinator) RepositoryURL(projectPath, token string) string {
	return strings.Replace(c.url, "://", "://gitlab-ci-token:"+token+"@", 1) + "/" + projectPath + ".git"
}

// ServerVariables are the predefined variables about this server, which the
// runner itself needs too (for artifacts and for git's insteadOf).
func (c *Coordinator) ServerVariables() []Variable {
	host, port, _ := net.SplitHostPort(strings.TrimPrefix(c.url, "http://"))
	return []Variable{
		{Key: "CI", Value: "true", Public: true},
		{Key: "GITLAB_CI", Value: "true", Public: true},
		{Key: "CI_SERVER_URL", Value: c.url, Public: true},
		{Key: "CI_SERVER_FQDN", Value: host + ":" + port, Public: true},
		{Key: "CI_SERVER_HOST", Value: host, Public: true},
		{Key: "CI_SERVER_PORT", Value: port, Public: true},
		{Key: "CI_SERVER_PROTOCOL", Value: "http", Public: true},
		{Key: "CI_SERVER_SHELL_SSH_HOST", Value: host, Public: true},
		{Key: "CI_SERVER_SHELL_SSH_PORT", Value: "22", Public: true},
		{Key: "CI_SERVER_NAME", Value: "GitLab", Public: true},
		{Key: "CI_SERVER_VERSION", Value: serverVersion, Public: true},
		{Key: "CI_SERVER_VERSION_MAJOR", Value: "19", Public: true},
		{Key: "CI_SERVER_VERSION_MINOR", Value: "4", Public: true},
		{Key: "CI_SERVER_VERSION_PATCH", Value: "0", Public: true},
		{Key: "CI_SERVER_REVISION", Value: "local", Public: true},
		{Key: "GITLAB_FEATURES", Value: "", Public: true},
		{Key: "CI_API_V4_URL", Value: c.url + "/api/v4", Public: true},
		{Key: "CI_API_GRAPHQL_URL", Value: c.url + "/api/graphql", Public: true},
	}
}

// serverVersion is the GitLab release that the runner 19.4 belongs to.
const serverVersion = "19.4.0"

// complete fills in what a server adds to a job.
func (c *Coordinator) complete(p *Payload) {
	setDefault(&p.Token, NewJobToken())
	setDefault(&p.JobInfo.Name, "job")
	setDefault(&p.JobInfo.Stage, "test")
	setDefault(&p.JobInfo.ProjectFullPath, "group/project")
	setDefault(&p.JobInfo.ProjectName, p.JobInfo.ProjectFullPath[strings.LastIndex(p.JobInfo.ProjectFullPath, "/")+1:])
	setDefault(&p.JobInfo.ProjectID, c.ProjectID(p.JobInfo.ProjectFullPath))
	setDefault(&p.JobInfo.InstanceUUID, c.options.InstanceUUID)
	setDefault(&p.JobInfo.InstanceID, "1")
	setDefault(&p.GitInfo.RepoURL, c.RepositoryURL(p.JobInfo.ProjectFullPath, p.Token))
	setDefault(&p.GitInfo.Ref, "main")
	setDefault(&p.GitInfo.RefType, "branch")
	setDefault(&p.GitInfo.BeforeSHA, strings.Repeat("0", 40))
	setDefault(&p.RunnerInfo.Timeout, defaultTimeout)
	if p.GitInfo.Refspecs == nil {
		p.GitInfo.Refspecs = []string{fmt.Sprintf("+refs/heads/%s:refs/remotes/origin/%s", p.GitInfo.Ref, p.GitInfo.Ref)}
		if p.GitInfo.RefType == "tag" {
			p.GitInfo.Refspecs = []string{fmt.Sprintf("+refs/tags/%s:refs/tags/%s", p.GitInfo.Ref, p.GitInfo.Ref)}
		}
	}
	p.Features.TraceSections = true
	if p.Features.FailureReasons == nil {
		p.Features.FailureReasons = failureReasons()
	}
	p.Steps = slices.Clone(p.Steps)
	for i := range p.Steps {
		setDefault(&p.Steps[i].Timeout, p.RunnerInfo.Timeout)
		setDefault(&p.Steps[i].When, "on_success")
	}

	predefined := append(c.ServerVariables(),
		Variable{Key: "CI_JOB_ID", Value: strconv.FormatInt(p.ID, 10), Public: true},
		Variable{Key: "CI_JOB_TOKEN", Value: p.Token, Masked: true},
		Variable{Key: "CI_JOB_NAME", Value: p.JobInfo.Name, Public: true},
		Variable{Key: "CI_JOB_STAGE", Value: p.JobInfo.Stage, Public: true},
		Variable{Key: "CI_PROJECT_ID", Value: strconv.FormatInt(p.JobInfo.ProjectID, 10), Public: true},
		Variable{Key: "CI_PROJECT_NAME", Value: p.JobInfo.ProjectName, Public: true},
		Variable{Key: "CI_PROJECT_PATH", Value: p.JobInfo.ProjectFullPath, Public: true},
		Variable{Key: "CI_COMMIT_SHA", Value: p.GitInfo.SHA, Public: true},
		Variable{Key: "CI_COMMIT_REF_NAME", Value: p.GitInfo.Ref, Public: true},
		Variable{Key: "CI_REPOSITORY_URL", Value: p.GitInfo.RepoURL},
	)
	given := map[string]bool{}
	for _, variable := range p.Variables {
		given[variable.Key] = true
	}
	predefined = slices.DeleteFunc(predefined, func(v Variable) bool { return given[v.Key] })
	p.Variables = append(predefined, p.Variables...)
	p.Extra = maps.Clone(p.Extra)
}

// NewJobToken makes a job token, for a payload that names its own.
func NewJobToken() string { return "glcbt-" + randomHex(12) }

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func sameToken(a, b string) bool {
	return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

func newUUID() string {
	s := randomHex(16)
	return s[:8] + "-" + s[8:12] + "-4" + s[13:16] + "-a" + s[17:20] + "-" + s[20:]
}
