package request

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/internal/lazyregexp"
)

// Limits of CreateTrainingJob, from botocore's model of SageMaker and the API
// reference.
const (
	maxVolumeGB       = 16384
	maxKeepAlive      = 6 * time.Hour
	maxRuntime        = 28 * 24 * time.Hour
	maxChannels       = 20
	maxChannelName    = 64
	maxS3URI          = 1024
	maxHyperparams    = 100
	maxHyperparamKey  = 256
	maxHyperparamText = 2500
	maxMetrics        = 40
	maxMetricName     = 255
	maxMetricRegex    = 500
)

// AgentChannel is the input channel with the agent's program, the executor's own.
const AgentChannel = "sagemaker-executor"

var (
	channelName   = lazyregexp.New(`^[A-Za-z0-9._-]+$`)
	bucketName    = lazyregexp.New(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	s3URI         = lazyregexp.New(`^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$`)
	roleARN       = lazyregexp.New(`^arn:aws[a-z-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+$`)
	checkpointKey = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	bareSeconds   = lazyregexp.New(`^[0-9]{1,9}$`)
	days          = lazyregexp.New(`^([0-9]{1,4})d(.*)$`)
)

func applyInstanceType(b *builder, v value) error {
	var list []string
	for item := range strings.SplitSeq(v.text, ",") {
		item = strings.TrimSpace(item)
		if err := b.checkInstanceType(item); err != nil {
			return v.wrong(err.Error())
		}
		if slices.Contains(list, item) {
			return v.wrong("each instance type once")
		}
		list = append(list, item)
	}
	b.req.InstanceTypes = list
	r := b.resources()
	r.InstanceType = types.TrainingInstanceType(list[0])
	r.InstanceGroups, r.InstancePreferences = nil, nil
	b.origin["ResourceConfig.InstanceType"] = v.name
	return nil
}

func applyInstanceCount(b *builder, v value) error {
	n, err := v.integer(1, math.MaxInt32)
	if err != nil {
		return err
	}
	if r := b.resources(); len(r.InstanceGroups) > 0 || len(r.InstancePreferences) > 0 {
		return failure.Invalid("the variable %s is %s, and %s gives counts of its own in InstanceGroups or InstancePreferences: leave one of them out", v.name, v.quoted(), b.spec)
	}
	b.resources().InstanceCount = aws.Int32(n)
	b.origin["ResourceConfig.InstanceCount"] = v.name
	return nil
}

func applyVolumeSize(b *builder, v value) error {
	n, err := v.integer(1, maxVolumeGB)
	if err != nil {
		return err
	}
	b.resources().VolumeSizeInGB = aws.Int32(n)
	b.origin["ResourceConfig.VolumeSizeInGB"] = v.name
	return nil
}

func applySpot(b *builder, v value) error {
	on, err := v.boolean()
	if err != nil {
		return err
	}
	b.in.EnableManagedSpotTraining = aws.Bool(on)
	b.origin["EnableManagedSpotTraining"] = v.name
	return nil
}

func applyMaxRuntime(b *builder, v value) error {
	d, err := v.duration(time.Second, maxRuntime)
	if err != nil {
		return err
	}
	b.stopping().MaxRuntimeInSeconds = wholeSeconds(d)
	b.origin["StoppingCondition.MaxRuntimeInSeconds"] = v.name
	return nil
}

func applyMaxWait(b *builder, v value) error {
	d, err := v.duration(time.Second, maxRuntime)
	if err != nil {
		return err
	}
	b.stopping().MaxWaitTimeInSeconds = wholeSeconds(d)
	b.origin["StoppingCondition.MaxWaitTimeInSeconds"] = v.name
	return nil
}

func applyKeepAlive(b *builder, v value) error {
	d, err := v.duration(0, maxKeepAlive)
	if err != nil {
		return err
	}
	b.resources().KeepAlivePeriodInSeconds = wholeSeconds(d)
	b.origin["ResourceConfig.KeepAlivePeriodInSeconds"] = v.name
	return nil
}

func applyCheckpoints(b *builder, v value) error {
	switch strings.ToLower(v.text) {
	case "false":
		b.in.CheckpointConfig = nil
		return nil
	case "true":
		b.req.CheckpointKey = b.retryKey()
	default:
		if !checkpointKey().MatchString(v.text) {
			return v.wrong("true, false, or a key of up to 128 letters, digits, dots, underscores and hyphens that begins with a letter or digit")
		}
		b.req.CheckpointKey = v.text
	}
	if b.in.CheckpointConfig == nil {
		b.in.CheckpointConfig = &types.CheckpointConfig{}
	}
	b.in.CheckpointConfig.S3Uri = aws.String(b.own("checkpoints") + "/" + b.req.CheckpointKey)
	b.origin["CheckpointConfig.S3Uri"] = v.name
	return nil
}

// allowedInput is what an input channel's variable may be.
const allowedInput = "s3://BUCKET/KEY of at most 1024 characters, and optionally a comma and File, FastFile or Pipe"

func applyInput(b *builder, v value) error {
	name := strings.ToLower(v.rest)
	if len(name) > maxChannelName || !channelName().MatchString(name) {
		return failure.Invalid("the variable %s: a channel's name has at most %d letters, digits and underscores", v.name, maxChannelName)
	}
	uri, mode, hasMode := cutLast(v.text, ",")
	input := types.TrainingInputModeFile
	if hasMode {
		i := slices.IndexFunc(input.Values(), func(m types.TrainingInputMode) bool {
			return strings.EqualFold(string(m), strings.TrimSpace(mode))
		})
		if i < 0 {
			return v.wrong(allowedInput)
		}
		input = input.Values()[i]
	}
	uri = strings.TrimSpace(uri)
	if bucket, _, _ := strings.Cut(strings.TrimPrefix(uri, "s3://"), "/"); strings.HasPrefix(uri, "s3://") && !bucketName().MatchString(bucket) && !v.file {
		return v.wrong(fmt.Sprintf("an S3 bucket's name of 3 to 63 of a-z, 0-9, dot and hyphen, which %s is not", shorten(bucket)))
	}
	if !s3URI().MatchString(uri) || len(uri) > maxS3URI {
		return v.wrong(allowedInput)
	}
	// FastFile refuses a prefix that ends within a folder's name.
	if input == types.TrainingInputModeFastfile && !strings.HasSuffix(uri, "/") {
		uri += "/"
	}
	ch := types.Channel{
		ChannelName: aws.String(name),
		InputMode:   input,
		DataSource: &types.DataSource{S3DataSource: &types.S3DataSource{
			S3DataType:             types.S3DataTypeS3Prefix,
			S3Uri:                  aws.String(uri),
			S3DataDistributionType: types.S3DataDistributionFullyReplicated,
		}},
	}
	for i := range b.in.InputDataConfig {
		if aws.ToString(b.in.InputDataConfig[i].ChannelName) == name {
			if other := b.channels[name]; other != "" {
				return failure.Invalid("the variables %s and %s name the same channel %q: remove one", other, v.name, name)
			}
			b.channels[name] = v.name
			b.in.InputDataConfig[i] = ch
			return nil
		}
	}
	b.channels[name] = v.name
	b.in.InputDataConfig = append(b.in.InputDataConfig, ch)
	return nil
}

func applyHyperparameters(b *builder, v value) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(v.text), &object); err != nil || object == nil {
		return v.wrong(`a JSON object such as {"epochs": 3, "optimizer": "adam"}`)
	}
	for key, raw := range object {
		text, err := jsonText(raw)
		if err != nil {
			return v.wrong("a JSON object")
		}
		b.hyperparameter(key, text, v.name)
	}
	return nil
}

func applyHyperparameter(b *builder, v value) error {
	name := familyName(v.rest)
	if other := b.hpNames[name]; other != "" {
		return failure.Invalid("the variables %s and %s set the same hyperparameter %q: remove one", other, v.name, name)
	}
	b.hpNames[name] = v.name
	b.hyperparameter(name, v.text, v.name)
	return nil
}

func applyMetric(b *builder, v value) error {
	name := familyName(v.rest)
	re, err := regexp.Compile(v.text)
	if err != nil && !strings.Contains(v.text, "(?") {
		return v.wrong("a regular expression (" + strings.TrimPrefix(err.Error(), "error parsing regexp: ") + ")")
	}
	// Look-around compiles at AWS and not in Go: AWS has the last word there.
	if err == nil && re.NumSubexp() != 1 {
		return v.wrong(`a regular expression with one group for the number, such as loss=([0-9.]+)`)
	}
	if n := len([]rune(v.text)); n > maxMetricRegex || strings.ContainsAny(v.text, "\r\n") {
		return v.wrong(fmt.Sprintf("one line of at most %d characters", maxMetricRegex))
	}
	if len(name) > maxMetricName {
		return failure.Invalid("the variable %s: a metric's name has at most %d characters", v.name, maxMetricName)
	}
	a := b.algorithm()
	def := types.MetricDefinition{Name: aws.String(name), Regex: aws.String(v.text)}
	for i := range a.MetricDefinitions {
		if aws.ToString(a.MetricDefinitions[i].Name) == name {
			a.MetricDefinitions[i] = def
			return nil
		}
	}
	a.MetricDefinitions = append(a.MetricDefinitions, def)
	return nil
}

func applyEntrypoint(b *builder, v value) error {
	if v.text == EntrypointImage {
		b.req.Entrypoint = Entrypoint{Mode: EntrypointImage}
		return nil
	}
	words := strings.Fields(v.text)
	if strings.HasPrefix(v.text, "[") {
		words = nil
		if err := json.Unmarshal([]byte(v.text), &words); err != nil {
			return v.wrong(`image, a command, or a JSON list such as ["/entrypoint.sh", "--quiet"]`)
		}
	}
	if len(words) == 0 || words[0] == "" {
		b.req.Entrypoint = Entrypoint{}
		return nil
	}
	b.req.Entrypoint = Entrypoint{Mode: EntrypointExplicit, Args: words}
	return nil
}

func applyRole(b *builder, v value) error {
	if !roleARN().MatchString(v.text) {
		return v.wrong("the ARN of an IAM role (arn:aws:iam::123456789012:role/NAME)")
	}
	b.in.RoleArn = aws.String(v.text)
	b.origin["RoleArn"] = v.name
	return nil
}

func (v value) integer(smallest, largest int) (int32, error) {
	n, err := strconv.Atoi(v.text)
	switch {
	case err == nil && n >= smallest && n <= largest:
		return int32(n), nil
	case largest == math.MaxInt32:
		return 0, v.wrong(fmt.Sprintf("a whole number, %d or more", smallest))
	default:
		return 0, v.wrong(fmt.Sprintf("a whole number, %d to %d", smallest, largest))
	}
}

func (v value) boolean() (bool, error) {
	switch strings.ToLower(v.text) {
	case "true", "1", "yes":
		return true, nil
	case "false", "0", "no":
		return false, nil
	}
	return false, v.wrong("true or false")
}

// duration reads seconds (AWS's unit) or a Go duration, with d for days.
func (v value) duration(shortest, longest time.Duration) (time.Duration, error) {
	allowed := fmt.Sprintf("seconds (3600) or a duration (90m, 1h30m, 2d) in whole seconds from %s to %s", brief(shortest), brief(longest))
	text := v.text
	if bareSeconds().MatchString(text) {
		text += "s"
	}
	var d time.Duration
	if m := days().FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1])
		d, text = time.Duration(n)*24*time.Hour, m[2]
	}
	if text != "" {
		more, err := time.ParseDuration(text)
		if err != nil {
			return 0, v.wrong(allowed)
		}
		d += more
	}
	if d < shortest || d > longest || d%time.Second != 0 {
		return 0, v.wrong(allowed)
	}
	return d, nil
}

// brief writes a duration without its zero parts: 6h, not 6h0m0s.
func brief(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// seconds writes a duration that AWS has in seconds.
func seconds(n int32) string { return brief(time.Duration(n) * time.Second) }

func wholeSeconds(d time.Duration) *int32 { return aws.Int32(int32(d / time.Second)) }

// familyName is the name that SAGEMAKER_HP_<NAME> and SAGEMAKER_METRIC_<NAME>
// stand for: variables are written in capitals by custom, parameters are not.
func familyName(rest string) string {
	if strings.ToUpper(rest) == rest {
		return strings.ToLower(rest)
	}
	return rest
}

// jsonText is a hyperparameter's text: a JSON string's content, anything
// else as compact JSON.
func jsonText(raw json.RawMessage) (string, error) {
	var s string
	if json.Unmarshal(raw, &s) == nil && !bytes.Equal(raw, []byte("null")) {
		return s, nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return "", err
	}
	return compact.String(), nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
