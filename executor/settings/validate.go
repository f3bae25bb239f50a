package settings

import (
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/internal/lazyregexp"
)

// Limits of AWS that settings must respect (botocore's model of SageMaker, and
// the S3 user guide's rules for bucket names).
const (
	maxVolumeGB     = 16384
	maxRuntime      = 28 * 24 * time.Hour
	maxKeepAlive    = 6 * time.Hour
	maxSubnets      = 16
	maxGroups       = 5
	maxTags         = 50
	ownTags         = 9 // the executor's gitlab:* tags
	maxStopGrace    = 5 * time.Minute
	smallestDead    = 5 * time.Second // twice the agent's slowest poll
	keepAliveGrain  = time.Second
	smallestRuntime = time.Minute
)

var (
	// regionName is the shape of AWS's regions: eu-west-1, us-gov-east-1.
	regionName = lazyregexp.New(`^[a-z]{2,5}(-[a-z]+)+-\d{1,2}$`)
	bucketName = lazyregexp.New(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	// roleARN is the pattern of RoleArn in SageMaker's API, before placeholders are replaced.
	roleARN      = lazyregexp.New(`^arn:aws[a-z-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+$`)
	instanceType = lazyregexp.New(`^ml\.[a-z0-9-]+\.[a-z0-9-]+$`)
	prefixText   = lazyregexp.New(`^[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*$`)
	placeholder  = lazyregexp.New(`\{(instance|project_id|protection)\}`)
	tagText      = lazyregexp.New(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
)

// check is one rule: if ok is false, key's value is wrong.
type check struct {
	key     string
	value   any
	ok      bool
	allowed string
}

func (s *Settings) validate() error {
	for _, c := range slices.Concat(s.checkTop(), s.checkDefaults(), s.checkPolicy(), s.checkRest()) {
		if !c.ok {
			return fmt.Errorf("%s: %s is %s: allowed is %s", s.Place(c.key), c.key, quote(c.value), c.allowed)
		}
	}
	return nil
}

func quote(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("%q", v)
	case []string:
		return fmt.Sprintf("%q", v)
	default:
		return fmt.Sprint(v)
	}
}

func (s *Settings) checkTop() []check {
	u, err := url.Parse(s.EndpointURL)
	endpoint := s.EndpointURL == "" || err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
	bucket := "the name of an S3 bucket (3 to 63 of a-z, 0-9, dot, hyphen)"
	return []check{
		{"region", s.Region, s.Region == "" || s.EndpointURL != "" || regionName().MatchString(s.Region), "an AWS region such as eu-west-1"},
		{"endpoint_url", s.EndpointURL, endpoint, "empty (AWS) or an http:// or https:// URL"},
		{"role_arn", s.RoleARN, s.RoleARN == "" || roleARN().MatchString(placeholder().ReplaceAllString(s.RoleARN, "x")), "the ARN of an IAM role (arn:aws:iam::123456789012:role/NAME)"},
		{"bucket", s.Bucket, bucketName().MatchString(s.Bucket), bucket},
		{"exchange_bucket", s.ExchangeBucket, s.ExchangeBucket == "" || bucketName().MatchString(s.ExchangeBucket), "empty (bucket) or " + bucket},
		{"prefix", s.Prefix, prefixText().MatchString(s.Prefix) && len(s.Prefix) <= 200, "a key prefix of letters, digits and !_.*'()- with single slashes between"},
		{"work_dir", s.WorkDir, filepath.IsAbs(s.WorkDir), "an absolute path"},
	}
}

func (s *Settings) checkDefaults() []check {
	d := s.Defaults
	checks := []check{
		{"defaults.kind", d.Kind, slices.Contains(s.Policy.Kinds, d.Kind), "one of policy.kinds (" + strings.Join(s.Policy.Kinds, ", ") + ")"},
		{"defaults.instance_type", d.InstanceType, len(d.InstanceType) > 0, "at least one instance type"},
		{"defaults.instance_count", d.InstanceCount, d.InstanceCount >= 1, "1 or more"},
		{"defaults.volume_size_gb", d.VolumeSizeGB, d.VolumeSizeGB >= 1 && d.VolumeSizeGB <= maxVolumeGB, "1 to 16384"},
		{"defaults.max_runtime", d.MaxRuntime, d.MaxRuntime == 0 || d.MaxRuntime.D() >= smallestRuntime && d.MaxRuntime.D() <= maxRuntime, "0 or 1m to 672h"},
		{"defaults.max_wait", d.MaxWait, d.MaxWait == 0 || d.MaxWait >= d.MaxRuntime && d.MaxWait.D() <= maxRuntime, "0 or max_runtime to 672h"},
		{"defaults.keep_alive", d.KeepAlive, d.KeepAlive.D() <= maxKeepAlive && d.KeepAlive.D()%keepAliveGrain == 0, "0 to 6h, whole seconds"},
		{"defaults.keep_alive", d.KeepAlive, d.KeepAlive == 0 || !d.Spot, "0 with defaults.spot: spot instances have no warm pool"},
	}
	for _, t := range d.InstanceType {
		checks = append(checks, check{"defaults.instance_type", t, instanceType().MatchString(t), "an instance type such as ml.m5.large"})
	}
	return checks
}

func (s *Settings) checkPolicy() []check {
	p := s.Policy
	checks := []check{
		{"policy.max_instance_count", p.MaxInstanceCount, p.MaxInstanceCount >= 1, "1 or more"},
		{"policy.max_volume_size_gb", p.MaxVolumeSizeGB, p.MaxVolumeSizeGB >= 1 && p.MaxVolumeSizeGB <= maxVolumeGB, "1 to 16384"},
		{"policy.max_runtime", p.MaxRuntime, p.MaxRuntime.D() >= smallestRuntime && p.MaxRuntime.D() <= maxRuntime, "1m to 672h"},
		{"policy.max_keep_alive", p.MaxKeepAlive, p.MaxKeepAlive.D() <= maxKeepAlive, "0 to 6h"},
	}
	for _, k := range p.Kinds {
		checks = append(checks, check{"policy.kinds", k, k == "training" || k == "host", "training, host"})
	}
	globs := map[string][]string{
		"policy.instance_types": p.InstanceTypes, "policy.images": p.Images, "policy.roles": p.Roles,
		"policy.s3_inputs": p.S3Inputs, "policy.s3_outputs": p.S3Outputs, "policy.subnets": p.Subnets,
		"policy.security_groups": p.SecurityGroups, "policy.environment": p.Environment, "policy.spec_fields": p.SpecFields,
		"policy.ignored_variables": p.IgnoredVariables,
	}
	for _, key := range slices.Sorted(maps.Keys(globs)) {
		for _, g := range globs[key] {
			checks = append(checks, check{key, g, doublestar.ValidatePattern(placeholder().ReplaceAllString(g, "x")), "a glob (*, ?, [a-z], {a,b})"})
		}
	}
	for _, key := range []string{"policy.s3_inputs", "policy.s3_outputs"} {
		for _, g := range globs[key] {
			checks = append(checks, check{key, g, strings.HasPrefix(g, "s3://"), "a glob that begins with s3://"})
		}
	}
	return checks
}

func (s *Settings) checkRest() []check {
	a, n := s.Agent, s.Network
	checks := []check{
		{"network.subnets", n.Subnets, len(n.Subnets) <= maxSubnets, "at most 16 subnets"},
		{"network.security_groups", n.SecurityGroups, len(n.SecurityGroups) <= maxGroups, "at most 5 security groups"},
		{"network.security_groups", n.SecurityGroups, (len(n.Subnets) == 0) == (len(n.SecurityGroups) == 0), "both network.subnets and network.security_groups, or neither"},
		{"agent.stop_grace", a.StopGrace, a.StopGrace > 0 && a.StopGrace.D() < maxStopGrace, "above 0 and below 5m"},
		{"agent.dead_after", a.DeadAfter, a.DeadAfter.D() >= smallestDead, "5s or more"},
		{"agent.log_limit", a.LogLimit, a.LogLimit >= 64<<10, "65536 bytes or more"},
		{"agent.cloudwatch", a.CloudWatch, slices.Contains([]string{CloudWatchFull, CloudWatchMetrics, CloudWatchOff}, a.CloudWatch), "full, metrics, off"},
		{"host.runner", s.Host.Runner, s.Host.Runner == "" || filepath.IsAbs(s.Host.Runner), "empty or an absolute path"},
		{"host.rootfs", s.Host.RootFS, s.Host.RootFS == "" || filepath.IsAbs(s.Host.RootFS), "empty or an absolute path"},
		{"host.uid_base", s.Host.UIDBase, s.Host.UIDBase >= 1000, "1000 or more"},
		{"host.uid_count", s.Host.UIDCount, s.Host.UIDCount >= 1, "1 or more"},
		{"tags", len(s.Tags), len(s.Tags) <= maxTags-ownTags, "at most 41 tags"},
	}
	for _, k := range slices.Sorted(maps.Keys(s.Tags)) {
		v := s.Tags[k]
		checks = append(checks,
			check{"tags." + k, k, !strings.HasPrefix(k, "gitlab:") && !strings.HasPrefix(strings.ToLower(k), "aws:") && tagText().MatchString(k) && len(k) >= 1 && len([]rune(k)) <= 128, "a name of up to 128 letters, digits, blanks and _.:/=+-@ that begins neither with gitlab: nor with aws:"},
			check{"tags." + k, v, tagText().MatchString(v) && len([]rune(v)) <= 256, "up to 256 letters, digits, blanks and _.:/=+-@"})
	}
	for _, k := range slices.Sorted(maps.Keys(s.Images)) {
		v := s.Images[k]
		checks = append(checks,
			check{"images." + k, k, doublestar.ValidatePattern(k), "a name or a glob"},
			check{"images." + k, v, v != "" && len(v) <= 255 && !strings.ContainsAny(v, " \t\n"), "an image reference of up to 255 characters"})
	}
	return checks
}
