package sagemaker

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	defaultMaxRuntime     = 86400 // seconds; StoppingCondition's documented default
	defaultCheckpoints    = "/opt/ml/checkpoints"
	homogeneousGroup      = "homogeneousCluster"
	defaultContainerArg   = "train"
	modeFile              = "File"
	modeFastFile          = "FastFile"
	modePipe              = "Pipe"
	dataPrefix            = "S3Prefix"
	dataManifest          = "ManifestFile"
	dataAugmentedManifest = "AugmentedManifestFile"
)

// trainingRequest holds the members of CreateTrainingJob that the platform acts on.
type trainingRequest struct {
	TrainingJobName        string
	RoleArn                string
	AlgorithmSpecification struct {
		TrainingImage       string
		AlgorithmName       string
		TrainingInputMode   string
		ContainerEntrypoint []string
		ContainerArguments  []string
		MetricDefinitions   []metricDefinition
		TrainingImageConfig *struct{ TrainingRepositoryAccessMode string }
	}
	InputDataConfig  []channel
	OutputDataConfig struct {
		S3OutputPath    string
		KmsKeyId        string
		CompressionType string
	}
	CheckpointConfig *struct {
		S3Uri     string
		LocalPath string
	}
	ResourceConfig    resourceConfig
	StoppingCondition *struct {
		MaxRuntimeInSeconds     int
		MaxWaitTimeInSeconds    int
		MaxPendingTimeInSeconds int
	}
	RetryStrategy                         *struct{ MaximumRetryAttempts int }
	HyperParameters                       map[string]string
	Environment                           map[string]string
	VpcConfig                             *vpcConfig
	EnableManagedSpotTraining             bool
	EnableNetworkIsolation                bool
	EnableInterContainerTrafficEncryption bool
	Tags                                  []Tag
}

type vpcConfig struct {
	SecurityGroupIds []string
	Subnets          []string
}

type metricDefinition struct{ Name, Regex string }

type channel struct {
	ChannelName string
	InputMode   string
	DataSource  struct {
		S3DataSource *struct {
			S3DataType             string
			S3Uri                  string
			S3DataDistributionType string
			InstanceGroupNames     []string
		}
	}
}

type instanceGroup struct {
	InstanceGroupName string
	InstanceType      string
	InstanceCount     int
}

type resourceConfig struct {
	InstanceType        string
	InstanceCount       int
	InstanceGroups      []instanceGroup
	InstancePreferences []struct {
		InstanceType  string
		InstanceCount int
	}
	VolumeSizeInGB           int
	VolumeKmsKeyId           string
	KeepAlivePeriodInSeconds int
}

// groups are the job's instances; a cluster of one kind is one group.
func (r *resourceConfig) groups() []instanceGroup {
	if len(r.InstanceGroups) > 0 {
		return r.InstanceGroups
	}
	if len(r.InstancePreferences) > 0 {
		p := r.InstancePreferences[0]
		return []instanceGroup{{homogeneousGroup, p.InstanceType, max(p.InstanceCount, 1)}}
	}
	return []instanceGroup{{homogeneousGroup, r.InstanceType, max(r.InstanceCount, 1)}}
}

func (t *trainingRequest) maxRuntime() int {
	if t.StoppingCondition == nil || t.StoppingCondition.MaxRuntimeInSeconds == 0 {
		return defaultMaxRuntime
	}
	return t.StoppingCondition.MaxRuntimeInSeconds
}

func (t *trainingRequest) checkpointPath() string {
	if t.CheckpointConfig.LocalPath == "" {
		return defaultCheckpoints
	}
	return path.Clean(t.CheckpointConfig.LocalPath)
}

// mode is a channel's input mode: its own, or the algorithm's.
func (t *trainingRequest) mode(c *channel) string {
	if c.InputMode != "" {
		return c.InputMode
	}
	if t.AlgorithmSpecification.TrainingInputMode != "" {
		return t.AlgorithmSpecification.TrainingInputMode
	}
	return modeFile
}

// ecrImage is an image reference in a registry of ECR.
var ecrImage = regexp.MustCompile(`^\d{12}\.dkr[.-]ecr(-fips)?\.[a-z0-9-]+\.(amazonaws\.com(\.cn)?|on\.aws)/.+$`)

// reservedPaths may not be a checkpoint directory.
var reservedPaths = []string{"/opt/ml/input", "/opt/ml/model", "/opt/ml/output", "/opt/ml/code", "/opt/ml", "/"}

// validate judges what the API model cannot express. The texts are AWS's where
// they are known.
func (t *trainingRequest) validate() error {
	a := &t.AlgorithmSpecification
	switch {
	case a.TrainingImage == "" && a.AlgorithmName == "":
		return validation("You must specify exactly one of TrainingImage or AlgorithmName in AlgorithmSpecification.")
	case a.TrainingImage != "" && a.AlgorithmName != "":
		return validation("Only one of TrainingImage or AlgorithmName may be specified in AlgorithmSpecification.")
	case a.AlgorithmName != "":
		return validation("Unable to describe algorithm %q: the local SageMaker has no algorithm resources; use TrainingImage.", a.AlgorithmName)
	}
	vpcRegistry := a.TrainingImageConfig != nil && a.TrainingImageConfig.TrainingRepositoryAccessMode == "Vpc"
	if !ecrImage.MatchString(a.TrainingImage) && !vpcRegistry {
		return validation("TrainingImageConfig with TrainingRepositoryAccessMode set to VPC must be provided when using a training image from a private Docker registry. " +
			"Please provideTrainingImageConfig and TrainingRepositoryAccessMode set to VPC when using a training image from a private Docker registry.") // AWS's own words, the missing blank included
	}
	if vpcRegistry && t.VpcConfig == nil {
		return validation("VpcConfig must be specified when TrainingRepositoryAccessMode is Vpc.")
	}
	if err := t.validateResources(); err != nil {
		return err
	}
	if err := t.validateStopping(); err != nil {
		return err
	}
	if err := t.validateChannels(); err != nil {
		return err
	}
	if _, _, err := parseS3URI(t.OutputDataConfig.S3OutputPath); err != nil {
		return validation("Invalid S3OutputPath %q: %v.", t.OutputDataConfig.S3OutputPath, err)
	}
	if t.CheckpointConfig != nil {
		if _, _, err := parseS3URI(t.CheckpointConfig.S3Uri); err != nil {
			return validation("Invalid CheckpointConfig S3Uri %q: %v.", t.CheckpointConfig.S3Uri, err)
		}
		if p := t.checkpointPath(); !path.IsAbs(p) || reserved(p) {
			return validation("Invalid CheckpointConfig LocalPath %q: it must be an absolute path that SageMaker does not use itself.", p)
		}
	}
	for _, m := range a.MetricDefinitions {
		if _, err := regexp.Compile(m.Regex); err != nil {
			return validation("Invalid regular expression %q of metric %q: %v.", m.Regex, m.Name, err)
		}
	}
	return nil
}

func reserved(p string) bool {
	return slices.ContainsFunc(reservedPaths, func(r string) bool {
		return p == r || strings.HasPrefix(p, r+"/") && r != "/opt/ml"
	})
}

func (t *trainingRequest) validateResources() error {
	r := &t.ResourceConfig
	homogeneous := r.InstanceType != "" || r.InstanceCount != 0
	switch {
	case homogeneous && len(r.InstanceGroups) > 0:
		return validation("InstanceType and InstanceCount cannot be specified together with InstanceGroups in ResourceConfig.")
	case len(r.InstancePreferences) > 0 && (r.InstanceType != "" || len(r.InstanceGroups) > 0):
		return validation("InstancePreferences cannot be specified together with InstanceType or InstanceGroups in ResourceConfig.")
	case len(r.InstancePreferences) > 0 && t.EnableManagedSpotTraining:
		return validation("InstancePreferences is not supported with managed spot training.")
	case len(r.InstanceGroups) == 0 && len(r.InstancePreferences) == 0 && (r.InstanceType == "" || r.InstanceCount == 0):
		return validation("InstanceType and InstanceCount must be specified in ResourceConfig.")
	case r.KeepAlivePeriodInSeconds > 0 && t.EnableManagedSpotTraining:
		return validation("KeepAlivePeriodInSeconds is not supported with managed spot training.")
	case r.KeepAlivePeriodInSeconds > 0 && len(r.InstanceGroups) > 0:
		return validation("KeepAlivePeriodInSeconds is not supported with heterogeneous clusters.")
	}
	seen := map[string]bool{}
	for _, g := range r.InstanceGroups {
		if seen[g.InstanceGroupName] {
			return validation("InstanceGroupName %q is not unique in ResourceConfig.", g.InstanceGroupName)
		}
		seen[g.InstanceGroupName] = true
	}
	return nil
}

func (t *trainingRequest) validateStopping() error {
	c := t.StoppingCondition
	wait := 0
	if c != nil {
		wait = c.MaxWaitTimeInSeconds
	}
	switch {
	case wait != 0 && !t.EnableManagedSpotTraining:
		return validation("Invalid MaxWaitTimeInSeconds. It is supported only when EnableManagedSpotTraining is set to true")
	case t.EnableManagedSpotTraining && wait < t.maxRuntime():
		return validation("Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds")
	}
	if c != nil && c.MaxPendingTimeInSeconds != 0 {
		for _, g := range t.ResourceConfig.groups() {
			if !accelerated.MatchString(g.InstanceType) {
				return validation("MaxPendingTimeInSeconds is not supported for instance type %s.", g.InstanceType)
			}
		}
	}
	return nil
}

// accelerated are the instance families with GPUs or AWS's own chips.
var accelerated = regexp.MustCompile(`^ml\.(p|g|trn|inf)\d`)

func (t *trainingRequest) validateChannels() error {
	seen := map[string]bool{}
	groups := map[string]bool{}
	for _, g := range t.ResourceConfig.groups() {
		groups[g.InstanceGroupName] = true
	}
	for i := range t.InputDataConfig {
		c := &t.InputDataConfig[i]
		if seen[c.ChannelName] {
			return validation("Channel name %q is not unique in InputDataConfig.", c.ChannelName)
		}
		seen[c.ChannelName] = true
		s3 := c.DataSource.S3DataSource
		if s3 == nil {
			return validation("Channel %q has no S3DataSource: the local SageMaker has no other data source.", c.ChannelName)
		}
		if _, _, err := parseS3URI(s3.S3Uri); err != nil {
			return validation("Invalid S3Uri %q of channel %q: %v.", s3.S3Uri, c.ChannelName, err)
		}
		switch mode := t.mode(c); {
		case mode == modePipe:
			return validation("Channel %q: the local SageMaker has no Pipe mode; use File or FastFile.", c.ChannelName)
		case mode == modeFastFile && s3.S3DataType != dataPrefix:
			return validation("Channel %q: FastFile mode supports only the S3DataType S3Prefix.", c.ChannelName)
		case s3.S3DataType == dataAugmentedManifest:
			return validation("Channel %q: AugmentedManifestFile is supported only in Pipe mode.", c.ChannelName)
		}
		for _, g := range s3.InstanceGroupNames {
			if !groups[g] {
				return validation("Channel %q names the instance group %q, which is not in ResourceConfig.", c.ChannelName, g)
			}
		}
	}
	return nil
}

// parseS3URI splits s3://bucket/key.
func parseS3URI(uri string) (bucket, key string, err error) {
	rest, ok := strings.CutPrefix(uri, "s3://")
	if !ok {
		return "", "", fmt.Errorf("it does not start with s3://")
	}
	bucket, key, _ = strings.Cut(rest, "/")
	if bucket == "" {
		return "", "", fmt.Errorf("it names no bucket")
	}
	return bucket, key, nil
}
