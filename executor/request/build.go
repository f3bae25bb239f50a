package request

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/internal/lazyregexp"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/job"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/settings"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/suggest"
)

// builder merges one request: spec, then variables over it, then defaults
// under both.
type builder struct {
	job       *job.Job
	set       *settings.Settings
	remaining time.Duration

	values map[string][]value
	in     *sagemaker.CreateTrainingJobInput
	req    *Request
	spec   string // how errors call the spec, empty without one

	specPaths map[string]bool   // fields that the spec set
	origin    map[string]string // path of a field: the variable that set it
	channels  map[string]string // channel: the variable that set it
	hpNames   map[string]string // hyperparameter: the SAGEMAKER_HP_ variable that set it
}

func newBuilder(j *job.Job, s *settings.Settings, remaining time.Duration) *builder {
	return &builder{
		job: j, set: s, remaining: remaining,
		in:       &sagemaker.CreateTrainingJobInput{},
		req:      &Request{job: j, settings: s},
		origin:   map[string]string{},
		channels: map[string]string{},
		hpNames:  map[string]string{},
	}
}

func (b *builder) resources() *types.ResourceConfig {
	if b.in.ResourceConfig == nil {
		b.in.ResourceConfig = &types.ResourceConfig{}
	}
	return b.in.ResourceConfig
}

func (b *builder) stopping() *types.StoppingCondition {
	if b.in.StoppingCondition == nil {
		b.in.StoppingCondition = &types.StoppingCondition{}
	}
	return b.in.StoppingCondition
}

func (b *builder) algorithm() *types.AlgorithmSpecification {
	if b.in.AlgorithmSpecification == nil {
		b.in.AlgorithmSpecification = &types.AlgorithmSpecification{}
	}
	return b.in.AlgorithmSpecification
}

func (b *builder) hyperparameter(key, text, variable string) {
	if b.in.HyperParameters == nil {
		b.in.HyperParameters = map[string]string{}
	}
	b.in.HyperParameters[key] = text
	b.origin["HyperParameters."+key] = variable
}

// merge fills the request from the variables over what the spec has put there,
// and the defaults under both. final says that everything is known that the
// request will be made of.
func (b *builder) merge(final bool) error {
	if err := b.applyImage(); err != nil {
		return err
	}
	if err := b.applyVariables(); err != nil {
		return err
	}
	b.fillResources()
	if err := b.fillTimes(final); err != nil {
		return err
	}
	b.fillPlaces()
	if final && aws.ToString(b.in.RoleArn) == "" {
		return b.noRole()
	}
	if err := b.checkSizes(); err != nil {
		return err
	}
	if err := b.judge(); err != nil {
		return err
	}
	if b.spec != "" { // what variables and defaults make is complete
		if err := b.checkRequired(); err != nil {
			return err
		}
	}
	b.result()
	return nil
}

// noRole is the user's mistake where the policy lets users name a role, and
// the administrator's (a system failure) where it does not.
func (b *builder) noRole() error {
	if len(b.set.Policy.Roles) == 0 {
		return fmt.Errorf("there is no execution role: set role_arn in %s to the ARN of an IAM role that SageMaker can assume", b.set.Place("role_arn"))
	}
	return failure.Invalid("there is no execution role: set the variable SAGEMAKER_ROLE_ARN to a role that the policy allows (%s; policy.roles, %s), or role_arn in %s",
		list(b.replaceAll(b.set.Policy.Roles)), b.set.Where("policy.roles"), b.set.Place("role_arn"))
}

func (b *builder) fillResources() {
	d, r := b.set.Defaults, b.resources()
	several := len(r.InstanceGroups) > 0 || len(r.InstancePreferences) > 0
	switch {
	case len(b.req.InstanceTypes) > 0:
	case several:
		b.req.InstanceTypes = []string{""}
	case r.InstanceType != "":
		b.req.InstanceTypes = []string{string(r.InstanceType)}
	default:
		b.req.InstanceTypes = slices.Clone(d.InstanceType)
		r.InstanceType = types.TrainingInstanceType(d.InstanceType[0])
	}
	if r.InstanceCount == nil && !several {
		r.InstanceCount = aws.Int32(int32(d.InstanceCount))
	}
	if r.VolumeSizeInGB == nil {
		r.VolumeSizeInGB = aws.Int32(int32(d.VolumeSizeGB))
	}
	if b.in.EnableManagedSpotTraining == nil {
		// A warm pool that was asked for outweighs the administrator's default.
		b.in.EnableManagedSpotTraining = aws.Bool(d.Spot && aws.ToInt32(r.KeepAlivePeriodInSeconds) == 0)
	}
	if r.KeepAlivePeriodInSeconds == nil && d.KeepAlive > 0 && !*b.in.EnableManagedSpotTraining {
		r.KeepAlivePeriodInSeconds = wholeSeconds(d.KeepAlive.D())
	}
	if aws.ToInt32(r.KeepAlivePeriodInSeconds) == 0 {
		r.KeepAlivePeriodInSeconds = nil
	}
	if r.VolumeKmsKeyId == nil && b.set.KMS.VolumeKey != "" {
		r.VolumeKmsKeyId = aws.String(b.set.KMS.VolumeKey)
	}
}

func (b *builder) fillTimes(final bool) error {
	left := min(b.remaining, maxRuntime, b.set.Policy.MaxRuntime.D()).Truncate(time.Second)
	if left < time.Second {
		return failure.New(failure.CodeTimeout, "nothing is left of the job's time-out of %s: raise timeout: in .gitlab-ci.yml", brief(b.job.Timeout))
	}
	c := b.stopping()
	if c.MaxRuntimeInSeconds == nil {
		runtime := left
		if d := b.set.Defaults.MaxRuntime.D(); d > 0 {
			runtime = min(d, left)
		}
		if c.MaxWaitTimeInSeconds != nil {
			runtime = min(runtime, time.Duration(*c.MaxWaitTimeInSeconds)*time.Second)
		}
		c.MaxRuntimeInSeconds = wholeSeconds(runtime)
	} else if d := time.Duration(*c.MaxRuntimeInSeconds) * time.Second; d > b.remaining {
		b.note("%s is %s and only %s are left of the job's time-out, which comes first: raise timeout: in .gitlab-ci.yml.",
			b.by("StoppingCondition.MaxRuntimeInSeconds"), b.written("StoppingCondition.MaxRuntimeInSeconds", brief(d)), brief(b.remaining.Truncate(time.Second)))
	}
	spot := aws.ToBool(b.in.EnableManagedSpotTraining)
	switch {
	case !spot && c.MaxWaitTimeInSeconds != nil && final:
		return failure.Invalid("%s is set without spot instances: set SAGEMAKER_SPOT to true, or leave it out", b.by("StoppingCondition.MaxWaitTimeInSeconds"))
	case spot && c.MaxWaitTimeInSeconds == nil:
		wait := left
		if d := b.set.Defaults.MaxWait.D(); d > 0 {
			wait = min(d, left)
		}
		c.MaxWaitTimeInSeconds = wholeSeconds(max(wait, time.Duration(*c.MaxRuntimeInSeconds)*time.Second))
	case spot && final && *c.MaxWaitTimeInSeconds < *c.MaxRuntimeInSeconds:
		const wait, run = "StoppingCondition.MaxWaitTimeInSeconds", "StoppingCondition.MaxRuntimeInSeconds"
		return failure.Invalid("%s is %s and %s is %s: the wait includes the run and must not be shorter",
			b.by(wait), b.written(wait, seconds(*c.MaxWaitTimeInSeconds)), b.by(run), b.written(run, seconds(*c.MaxRuntimeInSeconds)))
	}
	if spot && final && b.in.ResourceConfig.KeepAlivePeriodInSeconds != nil {
		return failure.Invalid("%s asks for a warm pool and %s for spot instances, which have none: leave one of them out",
			b.by("ResourceConfig.KeepAlivePeriodInSeconds"), b.by("EnableManagedSpotTraining"))
	}
	return nil
}

// fillPlaces fills in what says where: role, buckets, network, keys, tags.
func (b *builder) fillPlaces() {
	if b.in.RoleArn == nil && b.set.RoleARN != "" {
		b.in.RoleArn = aws.String(b.replace(b.set.RoleARN))
	}
	a := b.algorithm()
	if a.TrainingInputMode == "" {
		a.TrainingInputMode = types.TrainingInputModeFile
	}
	if b.in.OutputDataConfig == nil {
		b.in.OutputDataConfig = &types.OutputDataConfig{}
	}
	out := b.in.OutputDataConfig
	if out.S3OutputPath == nil {
		out.S3OutputPath = aws.String(b.own("models"))
	}
	if out.KmsKeyId == nil && b.set.KMS.OutputKey != "" {
		out.KmsKeyId = aws.String(b.set.KMS.OutputKey)
	}
	if b.in.VpcConfig == nil && len(b.set.Network.Subnets) > 0 {
		b.in.VpcConfig = &types.VpcConfig{
			Subnets:          slices.Clone(b.set.Network.Subnets),
			SecurityGroupIds: slices.Clone(b.set.Network.SecurityGroups),
		}
	}
	if b.in.EnableInterContainerTrafficEncryption == nil && b.set.Network.EncryptTraffic {
		b.in.EnableInterContainerTrafficEncryption = aws.Bool(true)
	}
	for _, key := range slices.Sorted(maps.Keys(b.set.Tags)) {
		tag := types.Tag{Key: aws.String(key), Value: aws.String(b.set.Tags[key])}
		i := slices.IndexFunc(b.in.Tags, func(t types.Tag) bool { return aws.ToString(t.Key) == key })
		if i >= 0 {
			b.in.Tags[i] = tag // the administrator's tags are not the user's to change
			continue
		}
		b.in.Tags = append(b.in.Tags, tag)
	}
}

// result copies to the Request what its users want in Go's types.
func (b *builder) result() {
	r, c := b.req, b.in.StoppingCondition
	r.Kind = KindTraining
	r.Create = b.in
	r.Image = aws.ToString(b.in.AlgorithmSpecification.TrainingImage)
	r.Spot = aws.ToBool(b.in.EnableManagedSpotTraining)
	r.MaxRuntime = time.Duration(*c.MaxRuntimeInSeconds) * time.Second
	r.MaxWait = time.Duration(aws.ToInt32(c.MaxWaitTimeInSeconds)) * time.Second
	r.KeepAlive = time.Duration(aws.ToInt32(b.in.ResourceConfig.KeepAlivePeriodInSeconds)) * time.Second
	for _, m := range b.in.AlgorithmSpecification.MetricDefinitions {
		r.Metrics = append(r.Metrics, Metric{Name: aws.ToString(m.Name), Regex: aws.ToString(m.Regex)})
	}
}

func (b *builder) note(format string, a ...any) {
	b.req.Notes = append(b.req.Notes, fmt.Sprintf(format, a...))
}

// by says who set a field: the variable, the spec, or the settings.
func (b *builder) by(path string) string {
	if v := b.origin[path]; v != "" {
		if strings.HasSuffix(v, ":") {
			return v
		}
		return "the variable " + v
	}
	if b.spec != "" && b.fromSpec(path) {
		return path + " in " + b.spec
	}
	return path
}

// written is a field's value as the user wrote it in a variable, or else as
// given.
func (b *builder) written(path, otherwise string) string {
	for _, vs := range b.values {
		for _, v := range vs {
			if v.name == b.origin[path] && !v.file {
				return v.text
			}
		}
	}
	return otherwise
}

// own is the job's own place in the bucket for models or checkpoints, without
// a slash at the end.
func (b *builder) own(kind string) string {
	return fmt.Sprintf("s3://%s/%s/%s/%s/%d/%s", b.set.Bucket, b.set.Prefix, kind, b.job.Instance, b.job.ProjectID, b.job.Protection())
}

// retryKey names the checkpoints of a job and of its retries: the same
// project, commit and job name. (The project is in the key's prefix.)
func (b *builder) retryKey() string {
	sum := sha256.Sum256([]byte(b.job.Name))
	slug := strings.Trim(notKey().ReplaceAllString(b.job.Name, "-"), "-.")
	slug = strings.TrimRight(slug[:min(len(slug), 40)], "-.")
	commit := notKey().ReplaceAllString(b.job.SHA, "")
	commit = commit[:min(len(commit), 16)]
	parts := slices.DeleteFunc([]string{commit, slug, hex.EncodeToString(sum[:4])}, func(p string) bool { return p == "" })
	return strings.Join(parts, "-")
}

var notKey = lazyregexp.New(`[^A-Za-z0-9._]+`)

// replace fills the placeholders of role_arn and of policy globs with trusted
// values of the job.
func (b *builder) replace(text string) string {
	return strings.NewReplacer(
		"{instance}", b.job.Instance,
		"{project_id}", strconv.FormatInt(b.job.ProjectID, 10),
		"{protection}", b.job.Protection(),
	).Replace(text)
}

func (b *builder) replaceAll(globs []string) []string {
	all := make([]string, len(globs))
	for i, g := range globs {
		all[i] = b.replace(g)
	}
	return all
}

// checkInstanceType says what is allowed if a type is none.
func (b *builder) checkInstanceType(name string) error {
	const allowed = "a comma list of SageMaker training instance types such as ml.m5.large"
	known := types.TrainingInstanceType("").Values()
	switch {
	case slices.Contains(known, types.TrainingInstanceType(name)), slices.Contains(b.set.Policy.InstanceTypes, name):
		return nil
	case name == "":
		return errors.New(allowed + ", without empty items")
	case slices.Contains(known, types.TrainingInstanceType("ml."+name)):
		return fmt.Errorf("%s (%q is EC2's name: write ml.%s)", allowed, name, name)
	}
	all := make([]string, len(known))
	for i, k := range known {
		all[i] = string(k)
	}
	return fmt.Errorf("%s (%q is none%s; newer types than this version knows must be in policy.instance_types by name)",
		allowed, name, suggest.Hint(name, all))
}

// checkSizes holds the lists that variables can lengthen to AWS's limits.
func (b *builder) checkSizes() error {
	if n := len(b.in.InputDataConfig); n > maxChannels-1 {
		return failure.Invalid("the job has %d input channels: allowed are %d (SageMaker's %d less the executor's own)", n, maxChannels-1, maxChannels)
	}
	for _, ch := range b.in.InputDataConfig {
		if aws.ToString(ch.ChannelName) == AgentChannel {
			return failure.Invalid("the channel %q belongs to the executor: choose another name", AgentChannel)
		}
	}
	if n := len(b.in.HyperParameters); n > maxHyperparams {
		return failure.Invalid("the job has %d hyperparameters: SageMaker allows %d", n, maxHyperparams)
	}
	for key, text := range b.in.HyperParameters {
		by := b.by("HyperParameters." + key)
		if len([]rune(key)) > maxHyperparamKey || key == "" {
			return failure.Invalid("%s has a hyperparameter whose name is empty or longer than %d characters", by, maxHyperparamKey)
		}
		if n := len([]rune(text)); n > maxHyperparamText || strings.ContainsAny(key+text, "\r\n") {
			return failure.Invalid("%s: a hyperparameter is one line of at most %d characters, and this has %d: put long values into a file of the repository", by, maxHyperparamText, n)
		}
	}
	if n := len(b.algorithm().MetricDefinitions); n > maxMetrics {
		return failure.Invalid("the job has %d metrics: SageMaker allows %d", n, maxMetrics)
	}
	return nil
}
