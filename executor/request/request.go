// Package request turns what a job asks for (SAGEMAKER_* variables and the
// spec) and what the administrator gives (defaults, policy) into one
// CreateTrainingJob request that has been checked.
//
// Its errors are failure.Build: failure.CodeInvalid for a user's mistake and
// failure.CodePolicy for what the policy does not allow. Each is one sentence
// with the variable or field, its value, what is allowed, and where that or the
// value was set. They never quote a file of the repository.
package request

import (
	"errors"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/job"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/settings"
)

// Kinds of job, the values of SAGEMAKER_JOB.
const (
	KindTraining = "training"
	KindHost     = "host"
)

// Modes of Entrypoint.
const (
	EntrypointNone     = ""         // the shell starts by itself
	EntrypointImage    = "image"    // the image's own ENTRYPOINT is put in front of the shell
	EntrypointExplicit = "explicit" // Args are put in front of the shell
)

// Entrypoint is what is put in front of the shell in the container.
type Entrypoint struct {
	Mode string
	Args []string // of EntrypointExplicit
}

// Metric is one metric that SageMaker reads from the log.
type Metric struct{ Name, Regex string }

// Request is what a job may have.
type Request struct {
	Kind string // KindTraining or KindHost; of a host job only Kind is set

	// Create is the request without name, container entrypoint and arguments,
	// the agent's channel and gitlab:* tags, which the executor adds. It is
	// complete otherwise: role, image, resources (InstanceType is the first of
	// InstanceTypes), VPC, keys, outputs, checkpoints, stopping condition, the
	// administrator's tags.
	Create        *sagemaker.CreateTrainingJobInput
	InstanceTypes []string // in order of preference, at least one

	MaxRuntime time.Duration
	MaxWait    time.Duration // 0 without spot
	KeepAlive  time.Duration // 0 without warm pool

	Image         string // resolved through [images]
	Entrypoint    Entrypoint
	Metrics       []Metric
	Spot          bool
	CheckpointKey string // empty without checkpoints
	Spec          string // path of a spec file in the project that is still to be read with WithSpec

	// Notes are remarks for the job log: what the request gets, where it is not
	// what the user wrote.
	Notes []string
}

// Resolve reads the job's variables and merges them over the settings'
// defaults. remaining is what is left of the job's time-out. A spec in a
// file-type variable is merged, a spec in the repository is not there yet: see
// WithSpec.
func Resolve(j *job.Job, s *settings.Settings, remaining time.Duration) (*Request, error) {
	return nil, errors.New("request: not yet")
}

// WithSpec reads the spec file from the job's project, if SAGEMAKER_SPEC names
// one, merges it (variables win) and judges the merged request. It returns a
// new Request for what is now left of the time-out.
func (r *Request) WithSpec(project *os.Root, remaining time.Duration) (*Request, error) {
	return nil, errors.New("request: not yet")
}
