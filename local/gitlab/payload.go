package gitlab

import (
	"encoding/json"
	"fmt"
	"maps"
)

// Payload is the answer to POST /api/v4/jobs/request: one job, in the words of
// the runner's common/spec. (That package itself cannot be imported: it needs
// modules that the Go module proxy does not have.)
type Payload struct {
	ID            int64        `json:"id"`
	Token         string       `json:"token"`
	AllowGitFetch bool         `json:"allow_git_fetch"`
	JobInfo       JobInfo      `json:"job_info"`
	GitInfo       GitInfo      `json:"git_info"`
	RunnerInfo    RunnerInfo   `json:"runner_info"`
	Variables     []Variable   `json:"variables"`
	Steps         []Step       `json:"steps"`
	Image         *Image       `json:"image,omitempty"`
	Services      []Image      `json:"services,omitempty"`
	Artifacts     []Artifact   `json:"artifacts,omitempty"`
	Cache         []Cache      `json:"cache,omitempty"`
	Dependencies  []Dependency `json:"dependencies,omitempty"`
	Features      Features     `json:"features"`

	// Extra holds members that the fields above do not name ("run", "hooks",
	// "inputs", ...). A key that a field names as well wins over the field.
	Extra map[string]any `json:"-"`
}

// MarshalJSON writes the fields and Extra as one object.
func (p Payload) MarshalJSON() ([]byte, error) {
	type fields Payload
	plain, err := json.Marshal(fields(p))
	if err != nil || len(p.Extra) == 0 {
		return plain, err
	}
	merged := map[string]any{}
	if err := json.Unmarshal(plain, &merged); err != nil {
		return nil, fmt.Errorf("merge extra members: %w", err)
	}
	maps.Copy(merged, p.Extra)
	return json.Marshal(merged)
}

// JobInfo says which job this is.
type JobInfo struct {
	Name            string `json:"name"`
	Stage           string `json:"stage"`
	PipelineID      int64  `json:"pipeline_id,omitempty"`
	ProjectID       int64  `json:"project_id"`
	ProjectName     string `json:"project_name"`
	ProjectFullPath string `json:"project_full_path"`
	InstanceID      string `json:"instance_id,omitempty"`
	InstanceUUID    string `json:"instance_uuid,omitempty"`
	UserID          int64  `json:"user_id,omitempty"`
}

// GitInfo says which commit the job is for and how to get it.
type GitInfo struct {
	RepoURL   string   `json:"repo_url"`
	Ref       string   `json:"ref"`
	SHA       string   `json:"sha"`
	BeforeSHA string   `json:"before_sha"`
	RefType   string   `json:"ref_type"` // "branch" or "tag"
	Refspecs  []string `json:"refspecs"`
	Depth     int      `json:"depth"`
	Protected *bool    `json:"protected,omitempty"`
}

// RunnerInfo carries the job's time-out in seconds.
type RunnerInfo struct {
	Timeout int `json:"timeout"`
}

// Variable is one CI/CD variable of the job.
type Variable struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Public bool   `json:"public"`
	File   bool   `json:"file"`
	Masked bool   `json:"masked"`
	Raw    bool   `json:"raw"`
}

// Step is a script of the job: "script" (before_script included) or
// "after_script".
type Step struct {
	Name         string   `json:"name"`
	Script       []string `json:"script"`
	Timeout      int      `json:"timeout"` // seconds
	When         string   `json:"when"`
	AllowFailure bool     `json:"allow_failure"`
}

// Script is the steps of a job that has a script and nothing else.
func Script(lines ...string) []Step {
	return []Step{{Name: "script", Script: lines, Timeout: defaultTimeout, When: "on_success"}}
}

// AfterScript is the step that GitLab makes of after_script.
func AfterScript(lines ...string) Step {
	return Step{Name: "after_script", Script: lines, Timeout: defaultTimeout, When: "always", AllowFailure: true}
}

// Image is the job's image, or one of its services.
type Image struct {
	Name         string         `json:"name"`
	Alias        string         `json:"alias,omitempty"`
	Command      []string       `json:"command,omitempty"`
	Entrypoint   []string       `json:"entrypoint,omitempty"`
	PullPolicies []string       `json:"pull_policy,omitempty"`
	ExecutorOpts map[string]any `json:"executor_opts,omitempty"`
}

// Artifact is one thing that the job uploads: its archive or a report.
type Artifact struct {
	Name      string   `json:"name,omitempty"`
	Untracked bool     `json:"untracked,omitempty"`
	Paths     []string `json:"paths,omitempty"`
	Exclude   []string `json:"exclude,omitempty"`
	When      string   `json:"when,omitempty"`
	Type      string   `json:"artifact_type"`   // "archive", "dotenv", "junit", ...
	Format    string   `json:"artifact_format"` // "zip", "gzip" or "raw"
	ExpireIn  string   `json:"expire_in,omitempty"`
}

// Archive is an artifact of type archive, uploaded when the job succeeds.
func Archive(paths ...string) Artifact {
	return Artifact{Paths: paths, When: "on_success", Type: ArtifactArchive, Format: "zip"}
}

// DotenvReport is the artifact that GitLab makes of artifacts:reports:dotenv.
func DotenvReport(path string) Artifact {
	return Artifact{Name: "dotenv", Paths: []string{path}, When: "always", Type: ArtifactDotenv, Format: "gzip"}
}

// Cache is one cache of the job.
type Cache struct {
	Key          string   `json:"key"`
	Untracked    bool     `json:"untracked"`
	Policy       string   `json:"policy"`
	Paths        []string `json:"paths"`
	When         string   `json:"when"`
	FallbackKeys []string `json:"fallback_keys,omitempty"`
}

// Dependency names a job whose archive the runner downloads first.
type Dependency struct {
	ID            int64          `json:"id"`
	Token         string         `json:"token"`
	Name          string         `json:"name"`
	ArtifactsFile DependencyFile `json:"artifacts_file"`
}

// DependencyFile is the archive of a dependency.
type DependencyFile struct {
	Filename string `json:"filename"`
	Size     int64  `json:"size"`
}

// Features tells the runner what this server understands.
type Features struct {
	TraceSections     bool     `json:"trace_sections"`
	TokenMaskPrefixes []string `json:"token_mask_prefixes,omitempty"`
	FailureReasons    []string `json:"failure_reasons"`
}

// defaultTimeout is GitLab's default for a project's jobs, in seconds.
const defaultTimeout = 3600

// failureReasons are the reasons that this server accepts: all that the runner
// may send (common/network.go), so that tests see them unmapped.
func failureReasons() []string {
	return []string{
		"script_failure", "runner_system_failure", "job_execution_timeout", "image_pull_failure",
		"unknown_failure", "runner_configuration_error", "runner_external_dependency_failure",
		"runner_interrupted", "job_canceled",
	}
}
