// Package executor is GitLab's side of the project: the stages of GitLab
// Runner's custom executor, one file a stage.
package executor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strconv"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/executors/custom/api"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/job"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/settings"
)

// Directories of a job, the same on the runner host (in the sandbox) and in the
// container: the runner's scripts hold absolute paths. Under /tmp, because that
// is on the large volume of a SageMaker container and writable for any user.
const (
	BuildsRoot = "/tmp/builds" // a job's builds directory is BuildsRoot/<job id>
	CacheDir   = "/tmp/cache"
)

// DriverName is how the runner's log calls this executor.
const DriverName = "sagemaker-executor"

// ConfigOptions are the inputs of the config stage.
type ConfigOptions struct {
	Settings    string   // settings file; empty means settings.DefaultFile
	Set         []string // overrides, table.key=value
	Environ     []string // as of os.Environ
	JobResponse string   // path of the job response file
	Version     string   // of this program
	Now         time.Time
	Stdout      io.Writer // gets the JSON and nothing else
}

// Config is the stage config: it reads the trusted job and the settings and
// tells the runner where the job lives. The resolved settings and the job's
// deadline go to the later stages through job_env. All its errors are system
// failures: the administrator's settings or the runner are wrong.
func Config(_ context.Context, o ConfigOptions) error {
	j, err := job.Load(o.JobResponse)
	if err != nil {
		return err
	}
	s, err := settings.Load(o.Settings, o.Environ, o.Set)
	if err != nil {
		return err
	}
	env := map[string]string{
		settings.EnvSettings: s.Encode(),
		settings.EnvDeadline: o.Now.Add(j.Timeout).UTC().Format(time.RFC3339),
	}
	maps.Copy(env, collector)
	out := api.ConfigExecOutput{
		Driver:    &api.DriverInfo{Name: new(DriverName), Version: new(o.Version)},
		BuildsDir: new(BuildsDir(j.ID)),
		CacheDir:  new(CacheDir),
		// Each job has a builds directory of its own.
		BuildsDirIsShared: new(false),
		JobEnv:            &env,
		Shell:             new("bash"),
	}
	if err := json.NewEncoder(o.Stdout).Encode(out); err != nil {
		return fmt.Errorf("write the configuration for the runner: %w", err)
	}
	return nil
}

// collector sets the Go garbage collector of the stages. AWS's clients fill a
// few MiB before main: most stages end before a collection would pay. The limit
// keeps what moves much data below the goal of 64 MiB; code, and buffers outside
// of the heap, come on top.
var collector = map[string]string{"GOGC": "400", "GOMEMLIMIT": "36MiB"}

// BuildsDir is a job's builds directory.
func BuildsDir(jobID int64) string { return BuildsRoot + "/" + strconv.FormatInt(jobID, 10) }
