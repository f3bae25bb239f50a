package request

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/settings"
)

// judged are the fields that rules of their own judge, wherever they come
// from. A spec may set no other field unless policy.spec_fields lists it.
var judged = []string{
	"RoleArn",
	"HyperParameters",
	"Environment",
	"EnableManagedSpotTraining",
	"EnableNetworkIsolation",
	"AlgorithmSpecification.TrainingImage",
	"AlgorithmSpecification.MetricDefinitions.{Name,Regex}",
	"ResourceConfig.{InstanceType,InstanceCount,VolumeSizeInGB,KeepAlivePeriodInSeconds}",
	"ResourceConfig.InstanceGroups.{InstanceType,InstanceCount,InstanceGroupName}",
	"ResourceConfig.InstancePreferences.{InstanceType,InstanceCount}",
	"StoppingCondition.{MaxRuntimeInSeconds,MaxWaitTimeInSeconds}",
	"InputDataConfig.ChannelName",
	"InputDataConfig.DataSource.S3DataSource.{S3DataType,S3Uri}",
	"OutputDataConfig.S3OutputPath",
	"CheckpointConfig.S3Uri",
	"TensorBoardOutputConfig.S3OutputPath",
	"VpcConfig.{Subnets,SecurityGroupIds}",
	"RemoteDebugConfig.EnableRemoteDebug",
}

// judge holds the merged request to the administrator's policy. The values of
// defaults are the administrator's own and pass.
func (b *builder) judge() error {
	p := b.set.Policy
	for _, path := range sortedKeys(b.specPaths) {
		if !settings.Match(judged, path) && !settings.Match(p.SpecFields, path) {
			return failure.Policy("%s sets %s, which the policy does not list (policy.spec_fields, %s): leave it out, or ask the administrator",
				b.spec, path, b.set.Where("policy.spec_fields"))
		}
	}
	if aws.ToBool(b.in.EnableNetworkIsolation) {
		return failure.Invalid("%s asks for network isolation (EnableNetworkIsolation), which this version cannot give: the container must reach S3", b.spec)
	}
	for _, rule := range []func() error{b.judgeTypes, b.judgeAmounts, b.judgeFields, b.judgeChannels, b.judgeEnvironment} {
		if err := rule(); err != nil {
			return err
		}
	}
	return nil
}

// deny is the policy's answer: what is asked for (by whom), what is allowed
// (empty: nothing), and where that is set.
func (b *builder) deny(path, value, key, allowed string) error {
	if b.origin[path] == "" && b.fromSpec(path) {
		value = "not allowed" // values of a file are not quoted
	}
	if allowed == "" {
		return failure.Policy("%s is %s, and the policy allows none (%s, %s): leave it out, or ask the administrator", b.by(path), value, key, b.set.Where(key))
	}
	return failure.Policy("%s is %s: allowed is %s (%s, %s)", b.by(path), value, allowed, key, b.set.Where(key))
}

// mine says whether a value is the administrator's default and not the user's.
func (b *builder) mine(path string) bool { return b.origin[path] == "" && !b.fromSpec(path) }

func (b *builder) judgeTypes() error {
	const path = "ResourceConfig.InstanceType"
	globs := b.set.Policy.InstanceTypes
	if b.mine(path) {
		return nil
	}
	for _, t := range b.req.InstanceTypes {
		if t != "" && !settings.Match(globs, t) {
			return b.deny(path, fmt.Sprintf("%q", t), "policy.instance_types", list(globs))
		}
	}
	return nil
}

func (b *builder) judgeAmounts() error {
	p, r, c := b.set.Policy, b.in.ResourceConfig, b.in.StoppingCondition
	count, countPath := aws.ToInt32(r.InstanceCount), "ResourceConfig.InstanceCount"
	for _, g := range r.InstanceGroups {
		n := aws.ToInt32(g.InstanceCount)
		if n < 1 || n > int32(p.MaxInstanceCount) { // before a sum of them overflows
			count, countPath = n, "ResourceConfig.InstanceGroups.InstanceCount"
			break
		}
		count, countPath = count+n, "ResourceConfig.InstanceGroups.InstanceCount"
	}
	for i, pref := range r.InstancePreferences {
		n := int32(1)
		if pref.InstanceCount != nil {
			n = *pref.InstanceCount
		}
		if i > 0 && n != count {
			return failure.Invalid("%s has InstancePreferences with different values of InstanceCount: use one, since the hosts of a job must be known before it starts", b.spec)
		}
		count, countPath = n, "ResourceConfig.InstancePreferences.InstanceCount"
	}
	b.req.Instances = int(max(1, count))
	runtime, wait := aws.ToInt32(c.MaxRuntimeInSeconds), aws.ToInt32(c.MaxWaitTimeInSeconds)
	longest, least := int32(p.MaxRuntime.D()/time.Second), int32(0)
	if c.MaxWaitTimeInSeconds != nil {
		least = 1
	}
	for _, a := range []struct {
		path            string
		value, min, max int32
		key, text       string
	}{
		{countPath, count, 1, int32(p.MaxInstanceCount), "policy.max_instance_count", fmt.Sprintf("1 to %d", p.MaxInstanceCount)},
		{"ResourceConfig.VolumeSizeInGB", aws.ToInt32(r.VolumeSizeInGB), 1, int32(p.MaxVolumeSizeGB), "policy.max_volume_size_gb", fmt.Sprintf("1 to %d", p.MaxVolumeSizeGB)},
		{"StoppingCondition.MaxRuntimeInSeconds", runtime, 1, longest, "policy.max_runtime", "up to " + brief(p.MaxRuntime.D())},
		{"StoppingCondition.MaxWaitTimeInSeconds", wait, least, longest, "policy.max_runtime", "up to " + brief(p.MaxRuntime.D())},
		{"ResourceConfig.KeepAlivePeriodInSeconds", aws.ToInt32(r.KeepAlivePeriodInSeconds), 0, int32(p.MaxKeepAlive.D() / time.Second), "policy.max_keep_alive", "up to " + brief(p.MaxKeepAlive.D())},
	} {
		if a.value < a.min && !b.mine(a.path) {
			return failure.Invalid("%s is too small: allowed is %s", b.by(a.path), a.text)
		}
		if a.value > a.max && !b.mine(a.path) {
			return b.deny(a.path, b.written(a.path, fmt.Sprint(a.value)), a.key, a.text)
		}
	}
	if aws.ToBool(b.in.EnableManagedSpotTraining) && !p.Spot && !b.mine("EnableManagedSpotTraining") {
		return b.deny("EnableManagedSpotTraining", "true", "policy.spot", "false")
	}
	return nil
}

// judgeFields judges by their names the fields that can stand in several
// places: images, roles, instance types, S3 URIs, networks.
func (b *builder) judgeFields() error {
	p := b.set.Policy
	return walk(reflect.ValueOf(b.in), "", func(path string, v reflect.Value) error {
		if b.mine(path) {
			return nil
		}
		text := ""
		if v.Kind() == reflect.String {
			text = v.String()
		}
		check := func(key string, globs []string) error {
			if settings.Match(globs, text) {
				return nil
			}
			return b.deny(path, shorten(text), key, list(globs))
		}
		switch name := path[strings.LastIndexByte(path, '.')+1:]; {
		case path == "RoleArn":
			return check("policy.roles", append([]string{b.replace(b.set.RoleARN)}, b.replaceAll(p.Roles)...))
		case name == "TrainingImage" || name == "RuleEvaluatorImage":
			return check("policy.images", p.Images)
		case name == "InstanceType":
			return check("policy.instance_types", p.InstanceTypes)
		case name == "Subnets":
			return check("policy.subnets", append(b.set.Network.Subnets[:len(b.set.Network.Subnets):len(b.set.Network.Subnets)], p.Subnets...))
		case name == "SecurityGroupIds":
			return check("policy.security_groups", append(b.set.Network.SecurityGroups[:len(b.set.Network.SecurityGroups):len(b.set.Network.SecurityGroups)], p.SecurityGroups...))
		case name == "EnableRemoteDebug" && v.Bool() && !p.RemoteDebug:
			return b.deny(path, "true", "policy.remote_debug", "false")
		case name == "S3OutputPath" || name == "S3Uri" && !strings.HasPrefix(path, "InputDataConfig."):
			return b.judgeURI(path, text, true)
		}
		return nil
	})
}

func (b *builder) judgeChannels() error {
	seen := map[string]bool{}
	for _, ch := range b.in.InputDataConfig {
		name := aws.ToString(ch.ChannelName)
		if seen[name] {
			return failure.Invalid("%s has two input channels of one name: remove one", b.spec)
		}
		seen[name] = true
		if ch.DataSource == nil || ch.DataSource.S3DataSource == nil {
			continue // what else a source can be, policy.spec_fields judges
		}
		path := "InputDataConfig." + name
		if v := b.channels[name]; v != "" {
			b.origin[path] = v
		} else {
			path = "InputDataConfig.DataSource.S3DataSource.S3Uri"
		}
		src := ch.DataSource.S3DataSource
		if src.S3DataType != types.S3DataTypeS3Prefix && !b.set.Policy.Manifests {
			return failure.Policy("%s has an input channel with an S3DataType other than S3Prefix, which the policy does not allow (policy.manifests, %s)", b.spec, b.set.Where("policy.manifests"))
		}
		if err := b.judgeURI(path, aws.ToString(src.S3Uri), false); err != nil {
			return err
		}
	}
	return nil
}

// judgeURI judges an S3 URI that the job reads or writes. Below our own prefix
// a job has its own models and checkpoints and nothing else, unless a glob of
// the policy names that prefix; the exchange of jobs and the agent's program
// are nobody's.
func (b *builder) judgeURI(path, uri string, write bool) error {
	key, globs := "policy.s3_inputs", b.replaceAll(b.set.Policy.S3Inputs)
	if write {
		key, globs = "policy.s3_outputs", b.replaceAll(b.set.Policy.S3Outputs)
		if !strings.HasSuffix(uri, "/") {
			uri += "/" // SageMaker writes below it
		}
	}
	if !s3URI().MatchString(uri) {
		return b.deny(path, shorten(uri), key, "a URI that begins with s3://BUCKET/")
	}
	ours := "s3://" + b.set.Bucket + "/" + b.set.Prefix + "/"
	exchange := "s3://" + b.set.Exchange() + "/" + b.set.Prefix + "/"
	for _, area := range []string{exchange + "jobs/", exchange + "bin/"} {
		if overlap(uri, area) {
			return b.deny(path, shorten(uri), key, "any place without the exchange of jobs ("+exchange+")")
		}
	}
	if b.owns(uri) {
		return nil
	}
	if overlap(uri, ours) {
		var named []string
		for _, g := range globs {
			if strings.HasPrefix(g, ours) {
				named = append(named, g)
			}
		}
		globs = named
	}
	if !settings.Match(globs, uri) {
		return b.deny(path, shorten(uri), key, list(append(globs, b.own("models")+"/*", b.own("checkpoints")+"/*")))
	}
	return nil
}

func (b *builder) owns(uri string) bool {
	return strings.HasPrefix(uri, b.own("models")+"/") || strings.HasPrefix(uri, b.own("checkpoints")+"/")
}

// overlap says whether what begins with one URI can lie in the other.
func overlap(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) }

func (b *builder) judgeEnvironment() error {
	for _, name := range sortedKeys(b.in.Environment) {
		if strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "TRAINING_JOB_") {
			return failure.Policy("%s sets a variable in Environment that begins with AWS_ or TRAINING_JOB_, which are SageMaker's: leave it out", b.spec)
		}
		if !settings.Match(b.set.Policy.Environment, name) {
			return b.deny("Environment", name, "policy.environment", list(b.set.Policy.Environment))
		}
	}
	return nil
}

func list(globs []string) string {
	return strings.Join(globs, ", ")
}
