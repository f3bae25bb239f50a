// Package request turns what a job asks for (SAGEMAKER_* variables and the
// spec) and what the administrator gives (defaults, policy) into one
// CreateTrainingJob request that has been checked.
//
// Its errors are failure.Build: failure.CodeInvalid for a user's mistake and
// failure.CodePolicy for what the policy does not allow; only a role that
// nobody but the administrator can name is a system failure. Each is one sentence
// with the variable or field, its value, what is allowed, and where that or the
// value was set. They never quote a file of the repository.
package request

import (
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
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
	InstanceTypes []string // in order of preference, at least one; "" where the spec has groups or preferences of its own
	Instances     int      // number of hosts, whichever field of the request says it

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

	job      *job.Job
	settings *settings.Settings
}

// Resolve reads the job's variables and merges them over the settings'
// defaults. remaining is what is left of the job's time-out. A spec in a
// file-type variable is merged; a spec in the repository is not there yet (see
// WithSpec), so what only it could say is not judged yet.
func Resolve(j *job.Job, s *settings.Settings, remaining time.Duration) (*Request, error) {
	if j.Canary() {
		return &Request{Kind: KindHost, job: j, settings: s}, nil
	}
	if err := refuse(j); err != nil {
		return nil, err
	}
	b := newBuilder(j, s, remaining)
	if err := b.variables(); err != nil {
		return nil, err
	}
	kind, err := b.kind()
	if err != nil {
		return nil, err
	}
	if kind == KindHost {
		b.req.Kind = KindHost
		return b.req, nil
	}
	spec, given := b.one("SAGEMAKER_SPEC")
	pending := given && !spec.file
	if pending {
		if err := checkSpecPath(spec); err != nil {
			return nil, err
		}
	}
	if given && spec.file {
		if err := b.readSpec("the file-type variable SAGEMAKER_SPEC", []byte(spec.text)); err != nil {
			return nil, err
		}
	}
	if err := b.merge(!pending); err != nil {
		return nil, err
	}
	if pending {
		b.req.Spec = spec.text
	}
	return b.req, nil
}

// WithSpec reads the spec file from the job's project, if SAGEMAKER_SPEC names
// one, merges it (variables win) and judges the merged request. It returns a
// new Request for what is now left of the time-out.
func (r *Request) WithSpec(project *os.Root, remaining time.Duration) (*Request, error) {
	if r.Spec == "" {
		return Resolve(r.job, r.settings, remaining)
	}
	data, err := readSpecFile(project, r.Spec)
	if err != nil {
		return nil, err
	}
	b := newBuilder(r.job, r.settings, remaining)
	if err := b.variables(); err != nil {
		return nil, err
	}
	if err := b.readSpec(r.Spec, data); err != nil {
		return nil, err
	}
	if err := b.merge(true); err != nil {
		return nil, err
	}
	return b.req, nil
}

// otherKinds are kinds of job that this version does not have.
var otherKinds = []string{"processing", "image", "register", "endpoint", "endpoint-test", "package", "prune"}

func (b *builder) kind() (string, error) {
	kind, by := b.set.Defaults.Kind, "defaults.kind ("+b.set.Where("defaults.kind")+")"
	if v, ok := b.one("SAGEMAKER_JOB"); ok {
		kind, by = v.text, "the variable SAGEMAKER_JOB"
	}
	switch {
	case slices.Contains(otherKinds, kind):
		return "", failure.Invalid("%s asks for a job of kind %q, which this version does not have: it has training and host", by, kind)
	case kind != KindTraining && kind != KindHost:
		return "", failure.Invalid("%s is %s: allowed is training or host", by, shorten(kind))
	case !slices.Contains(b.set.Policy.Kinds, kind):
		return "", failure.Policy("%s asks for a job of kind %q: allowed is %s (policy.kinds, %s)", by, kind, strings.Join(b.set.Policy.Kinds, ", "), b.set.Where("policy.kinds"))
	}
	return kind, nil
}

// refuse names what a job cannot have here, whatever its kind.
func refuse(j *job.Job) error {
	if len(j.Services) > 0 {
		var names []string
		for _, s := range j.Services {
			names = append(names, s.Name)
		}
		return failure.Invalid("services: (%s) cannot run beside a SageMaker container: remove them and start what you need in script:", shorten(strings.Join(names, ", ")))
	}
	if j.Run != "" {
		return failure.Invalid("the run: keyword (CI steps) does not work with custom executors: use script:")
	}
	return nil
}
