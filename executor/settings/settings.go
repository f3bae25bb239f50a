// Package settings holds the administrator's settings of the executor: the
// TOML file that `config --settings` names, overridden by environment
// variables and flags. Unknown keys and values that are not allowed are errors
// that say where they were set. Secrets have no place here: credentials come
// from AWS's usual sources.
package settings

import (
	"fmt"
	"time"
)

// DefaultFile is read where no file is named: by config without --settings,
// and by cleanup when config never ran.
const DefaultFile = "/etc/gitlab-runner/sagemaker-executor.toml"

// Keys of the job environment (job_env) that the config stage prints and all
// later stages get, without prefix. Users cannot set them: their variables
// arrive as CUSTOM_ENV_*.
const (
	EnvSettings = "SAGEMAKER_EXECUTOR_SETTINGS" // Encode's text
	EnvDeadline = "SAGEMAKER_EXECUTOR_DEADLINE" // RFC 3339: the job's start and its time-out
)

// Values of [agent] cloudwatch.
const (
	CloudWatchFull    = "full"
	CloudWatchMetrics = "metrics"
	CloudWatchOff     = "off"
)

// Settings is the whole file. The doc tags are the source of docs/settings.md;
// a test holds both and config.toml.example together.
type Settings struct {
	Region         string `toml:"region" doc:"AWS region of SageMaker and the buckets. Empty: AWS_REGION or AWS_DEFAULT_REGION of the runner."`
	EndpointURL    string `toml:"endpoint_url" doc:"URL of all AWS services. Empty: AWS."`
	RoleARN        string `toml:"role_arn" doc:"Execution role of SageMaker jobs. {instance}, {project_id} and {protection} are replaced by the job's trusted values, so that each project can have a role of its own."`
	Bucket         string `toml:"bucket" doc:"S3 bucket for models, checkpoints and everything else. Required."`
	ExchangeBucket string `toml:"exchange_bucket" doc:"S3 bucket for what executor and container exchange during a job (it carries secrets: no versioning, encrypted, expiring). Empty: bucket."`
	Prefix         string `toml:"prefix" doc:"First part of all S3 keys. Slashes at its ends do not count; empty is the default."`
	WorkDir        string `toml:"work_dir" doc:"Directory of the runner host for jobs' working copies and local caches. Absolute."`
	Instance       string `toml:"instance" doc:"Name of this GitLab server, where several share one AWS account. Empty: the server's UUID, or the host of its repository URLs on servers that do not send one."`

	Defaults Defaults          `toml:"defaults" doc:"What a job gets that does not ask."`
	Images   map[string]string `toml:"images" doc:"What stands behind a job's image: name or glob pattern to ECR image. An exact name wins over a pattern, a longer pattern over a shorter one."`
	Policy   Policy            `toml:"policy" doc:"What jobs may ask for. Judged on the merged request; globs know *, ? and {a,b}."`
	Network  Network           `toml:"network" doc:"VPC of the jobs' containers. Empty: SageMaker's own network."`
	KMS      KMS               `toml:"kms" doc:"Keys (ID, ARN or alias) to encrypt with. Empty: AWS's own."`
	Tags     map[string]string `toml:"tags" doc:"Further tags on every SageMaker job, for cost allocation."`
	Agent    Agent             `toml:"agent" doc:"The program that runs the script in the container."`
	Waits    Waits             `toml:"waits" doc:"How long to wait for AWS."`
	Host     Host              `toml:"host" doc:"The sandbox on the runner host, where git, cache and artifacts work."`

	// File is the file that was read, for error texts.
	File string `toml:"-"`
	// Sources says where each key was set that is not a default: "file:line",
	// "$VARIABLE" or "--set".
	Sources map[string]string `toml:"-"`
}

// Defaults is the table [defaults].
type Defaults struct {
	Kind          string   `toml:"kind" doc:"Kind of a job without SAGEMAKER_JOB: training, or host." allowed:"training, host"`
	InstanceType  []string `toml:"instance_type" doc:"Instance types in order of preference."`
	InstanceCount int      `toml:"instance_count" doc:"Number of instances."`
	VolumeSizeGB  int      `toml:"volume_size_gb" doc:"Size of each instance's volume in GB, 1 to 16384. Project, image and /tmp must fit."`
	Image         string   `toml:"image" doc:"Image of a job without image:. {region} is replaced. The default is AWS's PyTorch image."`
	Spot          bool     `toml:"spot" doc:"Use managed spot instances."`
	MaxRuntime    Duration `toml:"max_runtime" doc:"Longest run of the container. 0: what is left of the job's time-out."`
	MaxWait       Duration `toml:"max_wait" doc:"Spot only: longest run and wait together. 0: what is left of the job's time-out."`
	KeepAlive     Duration `toml:"keep_alive" doc:"How long instances stay in the warm pool for the next job, up to 6h. They are billed. 0: not at all."`
}

// Policy is the table [policy].
type Policy struct {
	Kinds            []string `toml:"kinds" doc:"Kinds of job (SAGEMAKER_JOB) that may run. host runs scripts on the runner host, in the sandbox: add it to allow that." allowed:"training, host"`
	InstanceTypes    []string `toml:"instance_types" doc:"Globs of instance types."`
	MaxInstanceCount int      `toml:"max_instance_count" doc:"Most instances of one job."`
	MaxVolumeSizeGB  int      `toml:"max_volume_size_gb" doc:"Largest volume per instance, in GB."`
	MaxRuntime       Duration `toml:"max_runtime" doc:"Longest SAGEMAKER_MAX_RUNTIME and SAGEMAKER_MAX_WAIT, up to 672h (28 days). A job's time-out limits it as well."`
	MaxKeepAlive     Duration `toml:"max_keep_alive" doc:"Longest SAGEMAKER_KEEP_ALIVE. 0: no warm pools. Instances of a warm pool are shared by all jobs of one role."`
	Spot             bool     `toml:"spot" doc:"Whether jobs may ask for spot instances."`
	Images           []string `toml:"images" doc:"Globs of images, after [images]."`
	Roles            []string `toml:"roles" doc:"Globs of execution roles beside role_arn. Placeholders as in role_arn."`
	S3Inputs         []string `toml:"s3_inputs" doc:"Globs of S3 URIs that a job may read through input channels. Other jobs' exchange and, in our prefix, other projects' models and checkpoints are never among them unless a glob names that prefix. Placeholders as in role_arn."`
	S3Outputs        []string `toml:"s3_outputs" doc:"Globs of S3 URIs to which a spec may send models, checkpoints and TensorBoard data, beside the job's own. Placeholders as in role_arn."`
	Subnets          []string `toml:"subnets" doc:"Globs of subnets that a spec may name beside [network]."`
	SecurityGroups   []string `toml:"security_groups" doc:"Globs of security groups that a spec may name beside [network]."`
	Environment      []string `toml:"environment" doc:"Globs of variable names that a spec may set in the container. AWS_* and TRAINING_JOB_* are always refused."`
	Manifests        bool     `toml:"manifests" doc:"Whether input channels may be manifest files, which name further S3 URIs that this policy cannot see."`
	RemoteDebug      bool     `toml:"remote_debug" doc:"Whether a spec may open the container to AWS Systems Manager sessions."`
	SpecFields       []string `toml:"spec_fields" doc:"Globs of further fields of the request that a spec may set, as paths without list positions (Tags.Key). Fields that other policy keys judge need no mention; what is left is refused."`
	IgnoredVariables []string `toml:"ignored_variables" doc:"Globs of SAGEMAKER_* variables that belong to other tools. Any other unknown one is an error."`
}

// Network is the table [network].
type Network struct {
	Subnets        []string `toml:"subnets" doc:"Subnet IDs, at most 16. They need a way to S3."`
	SecurityGroups []string `toml:"security_groups" doc:"Security group IDs, at most 5. Required with subnets."`
	EncryptTraffic bool     `toml:"encrypt_traffic" doc:"Encrypt the traffic between the instances of one job."`
}

// KMS is the table [kms].
type KMS struct {
	VolumeKey string `toml:"volume_key" doc:"For the instances' volumes. Not for instance types with NVMe storage."`
	OutputKey string `toml:"output_key" doc:"For the model and other outputs in S3."`
}

// Agent is the table [agent].
type Agent struct {
	StopGrace  Duration `toml:"stop_grace" doc:"Time between SIGTERM and SIGKILL when a job is cancelled. Less than graceful_kill_timeout of the runner, which is less than 5m."`
	DeadAfter  Duration `toml:"dead_after" doc:"The container ends itself when the executor has been silent for so long."`
	LogLimit   int64    `toml:"log_limit" doc:"Bytes of a script's output after which the job log gets only its end. The runner's output_limit (in KiB, default 4096) must be above it."`
	CloudWatch string   `toml:"cloudwatch" doc:"What CloudWatch gets of a script's output: full (masked), metrics (lines that match a metric), off." allowed:"full, metrics, off"`
}

// Waits is the table [waits].
type Waits struct {
	CapacityWait Duration `toml:"capacity_wait" doc:"Wait for capacity on one instance type before the next one is tried."`
	QuotaWait    Duration `toml:"quota_wait" doc:"Wait for a quota that other jobs use up."`
}

// Host is the table [host].
type Host struct {
	Runner   string `toml:"runner" doc:"Path of the gitlab-runner program that scripts call for cache and artifacts. Empty: the one on PATH."`
	RootFS   string `toml:"rootfs" doc:"Directory tree that host scripts see instead of the runner host's own system. It needs bash, git and CA roots."`
	UIDBase  int    `toml:"uid_base" doc:"First user ID of the sandboxes, when the runner runs as root: running jobs of one project and protection share one, others never do."`
	UIDCount int    `toml:"uid_count" doc:"Number of such user IDs; at least the runner's concurrent."`
}

// Default returns the settings of an empty file.
func Default() *Settings {
	return &Settings{
		Prefix:  "sagemaker-executor",
		WorkDir: "/var/lib/sagemaker-executor",
		Defaults: Defaults{
			Kind:          "training",
			InstanceType:  []string{"ml.m5.large"},
			InstanceCount: 1,
			VolumeSizeGB:  30,
			Image:         "763104351884.dkr.ecr.{region}.amazonaws.com/pytorch-training:2.5.1-cpu-py311-ubuntu22.04-sagemaker",
		},
		Images: map[string]string{},
		Policy: Policy{
			Kinds:            []string{"training"},
			InstanceTypes:    []string{"ml.*"},
			MaxInstanceCount: 4,
			MaxVolumeSizeGB:  1024,
			MaxRuntime:       Duration(5 * 24 * time.Hour),
			MaxKeepAlive:     Duration(time.Hour),
			Spot:             true,
			Images:           []string{"*"},
			S3Inputs:         []string{"s3://*"},
			Environment:      []string{"*"},
			SpecFields: []string{
				"AlgorithmSpecification.{TrainingInputMode,EnableSageMakerMetricsTimeSeries}",
				"InputDataConfig.{ContentType,CompressionType,RecordWrapperType,InputMode,ShuffleConfig.Seed}",
				"InputDataConfig.DataSource.S3DataSource.{S3DataDistributionType,AttributeNames,InstanceGroupNames}",
				"{CheckpointConfig,TensorBoardOutputConfig}.LocalPath",
				"OutputDataConfig.CompressionType",
				"EnableInterContainerTrafficEncryption",
				"StoppingCondition.MaxPendingTimeInSeconds",
				"RetryStrategy.MaximumRetryAttempts",
				"InfraCheckConfig.EnableInfraCheck",
			},
			IgnoredVariables: []string{},
			Roles:            []string{},
			S3Outputs:        []string{},
			Subnets:          []string{},
			SecurityGroups:   []string{},
		},
		Network: Network{Subnets: []string{}, SecurityGroups: []string{}},
		Tags:    map[string]string{},
		Agent: Agent{
			StopGrace:  Duration(30 * time.Second),
			DeadAfter:  Duration(10 * time.Minute),
			LogLimit:   3 << 20,
			CloudWatch: CloudWatchFull,
		},
		Waits: Waits{
			CapacityWait: Duration(10 * time.Minute),
			QuotaWait:    Duration(30 * time.Minute),
		},
		Host: Host{UIDBase: 200000, UIDCount: 256},
	}
}

// Exchange is the bucket of the exchange.
func (s *Settings) Exchange() string {
	if s.ExchangeBucket != "" {
		return s.ExchangeBucket
	}
	return s.Bucket
}

// Where says where a key (table.key) was set, for error texts that have named
// the key.
func (s *Settings) Where(key string) string {
	if source, ok := s.Sources[key]; ok {
		return source
	}
	if s.File != "" {
		return "the default, not set in " + s.File
	}
	return "the default"
}

// Place says where a key is to be mended: where it was set, else the file.
func (s *Settings) Place(key string) string {
	if source, ok := s.Sources[key]; ok {
		return source
	}
	return s.File
}

// Duration is a time.Duration that is written as a Go string ("90s", "1h30m").
type Duration time.Duration

// D is the duration for Go code.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String writes the duration as a Go string.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes the duration as a Go string.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a Go duration that is not negative.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no duration: write it like 90s, 15m or 1h30m", text)
	}
	*d = Duration(v)
	return nil
}
