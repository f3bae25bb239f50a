// Package job reads the job that GitLab Runner hands to a custom executor in
// JOB_RESPONSE_FILE, and says what of it can be trusted.
//
// Trusted are the fields that GitLab's server writes: id, job_info.* and
// git_info.*. Variables, image, services, artifacts and caches come from the
// .gitlab-ci.yml of the project: they are requests, and nothing here or in the
// environment (CUSTOM_ENV_*) may grant anything.
package job

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"
)

// Protected and Open are the two values of Job.Protection.
const (
	Protected = "protected"
	Open      = "open"
)

// DefaultTimeout is what GitLab Runner assumes for a job that comes without a
// time-out (common.DefaultTimeout in the runner).
const DefaultTimeout = 2 * time.Hour

// Names of steps in a job response.
const (
	StepScript      = "script"
	StepAfterScript = "after_script"
)

// Job is one CI job as the job response file describes it. Fields down to
// Timeout are trusted; everything below is the user's.
type Job struct {
	ID          int64
	PipelineID  int64
	ProjectID   int64
	ProjectPath string // full path (group/project), empty on servers that do not send it
	ProjectName string
	Name, Stage string
	Instance    string // short hash of the GitLab server, see UseInstance
	Ref         string
	RefType     string // branch or tag
	SHA         string
	RepoURL     string // may carry the job token
	Protected   bool   // git_info.protected; missing means false
	Token       string // the job token: secret
	Timeout     time.Duration

	Image     Image
	Services  []Image
	Steps     []Step
	Artifacts []Artifact
	Cache     []Cache
	// Downloads: artifacts of earlier jobs are wanted.
	Downloads bool
	Run       string // JSON of the run: keyword, empty without one

	Variables    Variables
	MaskPrefixes []string // prefixes of tokens to mask, as GitLab's server lists them

	secrets map[string]bool // names of secrets:, and whether each is a file
}

// Image is image: or one of services:.
type Image struct {
	Name       string   `json:"name"`
	Alias      string   `json:"alias"`
	Entrypoint []string `json:"entrypoint"`
	Command    []string `json:"command"`
}

// Step is one script of the job.
type Step struct {
	Name         string   `json:"name"`
	Script       []string `json:"script"`
	Timeout      int      `json:"timeout"` // seconds
	When         string   `json:"when"`
	AllowFailure bool     `json:"allow_failure"`
}

// Artifact is one upload: the archive of artifacts:paths, or one of
// artifacts:reports.
type Artifact struct {
	Name      string   `json:"name"`
	Untracked bool     `json:"untracked"`
	Paths     []string `json:"paths"`
	Exclude   []string `json:"exclude"`
	When      string   `json:"when"`            // on_success (also when empty), on_failure, always
	Type      string   `json:"artifact_type"`   // archive, or a report: dotenv, junit, ...
	Format    string   `json:"artifact_format"` // zip, gzip, raw
	ExpireIn  string   `json:"expire_in"`
}

// Cache is one entry of cache:.
type Cache struct {
	Key          string   `json:"key"`
	Untracked    bool     `json:"untracked"`
	Policy       string   `json:"policy"` // pull-push (also when empty), pull, push
	Paths        []string `json:"paths"`
	When         string   `json:"when"` // on_success (also when empty), on_failure, always
	FallbackKeys []string `json:"fallback_keys"`
}

// response is the part of the runner's job response (common/spec.Job in GitLab
// Runner) that this package reads. The runner's own package is not used: it
// links a secrets client, a metrics library and the step runner into every
// driver call.
type response struct {
	ID      int64  `json:"id"`
	Token   string `json:"token"`
	JobInfo *struct {
		Name            string `json:"name"`
		Stage           string `json:"stage"`
		PipelineID      int64  `json:"pipeline_id"`
		ProjectID       int64  `json:"project_id"`
		ProjectName     string `json:"project_name"`
		ProjectFullPath string `json:"project_full_path"`
		InstanceUUID    string `json:"instance_uuid"`
	} `json:"job_info"`
	GitInfo struct {
		RepoURL   string `json:"repo_url"`
		Ref       string `json:"ref"`
		SHA       string `json:"sha"`
		RefType   string `json:"ref_type"`
		Protected *bool  `json:"protected"`
	} `json:"git_info"`
	RunnerInfo struct {
		Timeout int64 `json:"timeout"`
	} `json:"runner_info"`
	Variables Variables       `json:"variables"`
	Steps     []Step          `json:"steps"`
	Image     Image           `json:"image"`
	Services  []Image         `json:"services"`
	Artifacts []Artifact      `json:"artifacts"`
	Cache     []Cache         `json:"cache"`
	Needs     []struct{}      `json:"dependencies"`
	Run       json.RawMessage `json:"run"`
	Secrets   map[string]struct {
		File *bool `json:"file"` // missing means true
	} `json:"secrets"`
	Features struct {
		TokenMaskPrefixes []string `json:"token_mask_prefixes"`
	} `json:"features"`
}

// Load reads a job response file. Its errors never quote the file's content:
// it holds the job's token and secrets.
func Load(path string) (*Job, error) {
	if path == "" {
		return nil, errors.New("JOB_RESPONSE_FILE is not set: run this as a GitLab Runner custom executor, version 14.1 or newer")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the job response: %w", err)
	}
	return Parse(data)
}

// Parse reads the content of a job response file. A job that does not say what
// and whose it is, is an error: nothing could be granted or found by it.
func Parse(data []byte) (*Job, error) {
	var r response
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("the job response is not what GitLab Runner writes: %w", withoutContent(err))
	}
	switch {
	case r.ID <= 0:
		return nil, errors.New("the job response is not what GitLab Runner writes: its id is missing or not above 0")
	case r.JobInfo == nil || r.JobInfo.ProjectID < 0:
		return nil, errors.New("the job response is not what GitLab Runner writes: its job_info is missing or names no project")
	case r.JobInfo.ProjectID == 0 && r.GitInfo.RepoURL != "":
		// Only the runner itself sends jobs of no project, and without a repository.
		return nil, errors.New("the job response has a repository and no project (job_info.project_id): GitLab's server must send it")
	}
	j := &Job{
		ID:          r.ID,
		PipelineID:  r.JobInfo.PipelineID,
		ProjectID:   r.JobInfo.ProjectID,
		ProjectPath: r.JobInfo.ProjectFullPath,
		ProjectName: r.JobInfo.ProjectName,
		Name:        r.JobInfo.Name,
		Stage:       r.JobInfo.Stage,
		Ref:         r.GitInfo.Ref,
		RefType:     r.GitInfo.RefType,
		SHA:         r.GitInfo.SHA,
		RepoURL:     r.GitInfo.RepoURL,
		Protected:   r.GitInfo.Protected != nil && *r.GitInfo.Protected,
		Token:       r.Token,
		Timeout:     time.Duration(r.RunnerInfo.Timeout) * time.Second,

		Image:     r.Image,
		Services:  r.Services,
		Steps:     r.Steps,
		Artifacts: r.Artifacts,
		Cache:     r.Cache, Downloads: len(r.Needs) > 0,
		Run: runKeyword(r.Run),

		Variables:    r.Variables,
		MaskPrefixes: r.Features.TokenMaskPrefixes,
	}
	j.secrets = make(map[string]bool, len(r.Secrets))
	for name, secret := range r.Secrets {
		j.secrets[name] = secret.File == nil || *secret.File
	}
	if j.Timeout <= 0 {
		j.Timeout = DefaultTimeout
	}
	j.Instance = hash(r.JobInfo.InstanceUUID)
	if r.JobInfo.InstanceUUID == "" {
		j.Instance = hash(host(r.GitInfo.RepoURL))
	}
	return j, nil
}

// UseInstance names the GitLab server by the administrator's own identifier
// instead of job_info.instance_uuid. Without either, the host (and port) of
// git_info.repo_url stands for the server: it is written by the server, too,
// and is there on every version. An empty name changes nothing.
func (j *Job) UseInstance(name string) {
	if name != "" {
		j.Instance = hash(name)
	}
}

// UseRunner adds to Variables what only the runner knows: its own variables, and
// the values of secrets:, which it fetched and which are masked.
func (j *Job) UseRunner(environ []string) {
	j.Variables = j.Variables.WithRunner(environ)
	for i, v := range j.Variables {
		if file, ok := j.secrets[v.Key]; ok {
			j.Variables[i].Masked, j.Variables[i].File = true, file
		}
	}
}

// Protection says whether the job runs for a protected branch or tag:
// "protected" or "open". It names the job's part of caches and exchange.
func (j *Job) Protection() string {
	if j.Protected {
		return Protected
	}
	return Open
}

// Canary says whether this is GitLab Runner's own boot verification, a job
// that no project sent: project 0, without a repository (commands/boot_verify.go
// of the runner). It needs no instance.
func (j *Job) Canary() bool { return j.ProjectID == 0 }

// HasAfterScript says whether an after_script stage will be called once the
// script has ended.
func (j *Job) HasAfterScript() bool {
	for _, s := range j.Steps {
		if s.Name == StepAfterScript && len(s.Script) > 0 {
			return true
		}
	}
	return false
}

// HasUploads says whether the runner will call a stage that archives a cache
// or uploads artifacts, when the script succeeded or failed as given.
func (j *Job) HasUploads(succeeded bool) bool {
	for _, a := range j.Artifacts {
		if runsWhen(a.When, succeeded) && (len(a.Paths) > 0 || a.Untracked) {
			return true
		}
	}
	for _, c := range j.Cache {
		if c.Policy != "pull" && runsWhen(c.When, succeeded) && (len(c.Paths) > 0 || c.Untracked) {
			return true
		}
	}
	return false
}

// NeedsRunner says whether the runner's scripts call the gitlab-runner program:
// for caches and artifacts, in either direction.
func (j *Job) NeedsRunner() bool {
	return j.Downloads || len(j.Artifacts) > 0 || len(j.Cache) > 0
}

// Remaining is what is left of the job's time-out when it began at start.
func (j *Job) Remaining(start, now time.Time) time.Duration {
	return max(0, start.Add(j.Timeout).Sub(now))
}

func runsWhen(when string, succeeded bool) bool {
	switch when {
	case "", "on_success":
		return succeeded
	case "on_failure":
		return !succeeded
	default:
		return when == "always"
	}
}

// runKeyword turns the run: keyword into its JSON. The server sends it as a
// string that holds JSON; the runner writes the parsed list back.
func runKeyword(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		raw = json.RawMessage(s)
	}
	switch text := strings.TrimSpace(string(raw)); text {
	case "", "null", "[]":
		return ""
	default:
		return text
	}
}

func host(repoURL string) string {
	u, err := url.Parse(repoURL)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// hash shortens an identifier to the 8 characters that names and keys carry.
func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}

// withoutContent keeps the position of a JSON error and drops what it quotes.
func withoutContent(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("bad JSON at byte %d", syntax.Offset)
	}
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		return fmt.Errorf("field %q has the wrong type at byte %d", typ.Field, typ.Offset)
	}
	return errors.New("bad JSON")
}
