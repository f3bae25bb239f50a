package request

import (
	"fmt"
	"strings"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/settings"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/suggest"
)

// varPrefix starts the variables of this executor.
const varPrefix = "SAGEMAKER_"

// outPrefix starts the results of earlier jobs, which arrive as variables
// (artifacts:reports:dotenv) and are never settings.
const outPrefix = "SAGEMAKER_OUT_"

// Variable documents one job variable.
type Variable struct {
	Name string // ends in <NAME> or <CHANNEL> for a family
	Doc  string
}

// Variables lists every job variable of this version, in the order of
// docs/variables.md.
func Variables() []Variable {
	vars := make([]Variable, len(table))
	for i, e := range table {
		vars[i] = Variable{Name: e.name, Doc: e.doc}
	}
	return vars
}

// entry is one variable, or a family of variables with a common prefix.
type entry struct {
	name  string
	doc   string
	apply func(b *builder, v value) error
}

// value is one variable of the job that is not empty.
type value struct {
	name string // SAGEMAKER_HP_LR
	rest string // of a family: LR
	text string // expanded
	file bool   // a file-type variable: text is its content, which no error quotes
}

// wrong is the error for a value that is not allowed.
func (v value) wrong(allowed string) error {
	return failure.Invalid("the variable %s is %s: allowed is %s", v.name, v.quoted(), allowed)
}

func (v value) quoted() string {
	if v.file {
		return "a file whose content does not fit"
	}
	return shorten(v.text)
}

// shorten quotes text for an error.
func shorten(text string) string {
	const longest = 120
	if r := []rune(text); len(r) > longest {
		text = string(r[:longest]) + "..."
	}
	return fmt.Sprintf("%q", text)
}

// table is the variables of this version.
var table = []entry{
	{"SAGEMAKER_JOB", "Kind of the job: `training`, or `host` (the script runs on the runner host in a sandbox, if `policy.kinds` allows it). Default: `defaults.kind`.", nil},
	{"SAGEMAKER_INSTANCE_TYPE", "Instance type, or a comma list of types in order of preference: when AWS has no capacity or the quota is too small, the next one is tried.", applyInstanceType},
	{"SAGEMAKER_INSTANCE_COUNT", "Number of instances. The script runs on each of them; the job log and the files are those of the first one (`algo-1`).", applyInstanceCount},
	{"SAGEMAKER_VOLUME_SIZE_GB", "Size of each instance's volume in GB, 1 to 16384.", applyVolumeSize},
	{"SAGEMAKER_SPOT", "`true`: managed spot instances, which are cheaper and can be taken away. Use it with `SAGEMAKER_CHECKPOINTS`.", applySpot},
	{"SAGEMAKER_MAX_RUNTIME", "Longest run of the container: seconds (`3600`) or a duration (`90m`, `1h30m`, `2d`). Default: what is left of the job's `timeout`.", applyMaxRuntime},
	{"SAGEMAKER_MAX_WAIT", "With spot only: longest run and wait for instances together; at least the longest run. Default: what is left of the job's `timeout`.", applyMaxWait},
	{"SAGEMAKER_KEEP_ALIVE", "How long the instances stay ready (and billed) in a warm pool for a job with the same resources and role, up to 6 hours. Not with spot.", applyKeepAlive},
	{"SAGEMAKER_CHECKPOINTS", "`true`: keep `/opt/ml/checkpoints` in S3 under a key of project, commit and job name, so that GitLab's Retry goes on where the job stopped. Any other value is the key (letters, digits, `.`, `_`, `-`).", applyCheckpoints},
	{"SAGEMAKER_INPUT_<CHANNEL>", "`s3://` URI of data that the container sees in `/opt/ml/input/data/<channel>`, with `<channel>` in lower case. Optionally `,File` (copied, the default), `,FastFile` (streamed, read-only) or `,Pipe`.", applyInput},
	{"SAGEMAKER_HYPERPARAMETERS", "JSON object of hyperparameters. Values that are not strings are passed as their JSON.", applyHyperparameters},
	{"SAGEMAKER_HP_<NAME>", "One hyperparameter; wins over `SAGEMAKER_HYPERPARAMETERS`. A `<NAME>` without lower-case letters is lower-cased (`SAGEMAKER_HP_LR` is `lr`), any other stays as it is.", applyHyperparameter},
	{"SAGEMAKER_METRIC_<NAME>", "Regular expression with one group that finds a metric's value in the log. `<NAME>` as for `SAGEMAKER_HP_<NAME>`. At most 40.", applyMetric},
	{"SAGEMAKER_ENTRYPOINT", "What is put in front of the shell in the container: `image` for the image's own ENTRYPOINT, or a command (words, or a JSON list). Default: `image:entrypoint` of the job, else nothing.", applyEntrypoint},
	{"SAGEMAKER_ROLE_ARN", "Execution role, if `policy.roles` allows it. Default: `role_arn` of the settings.", applyRole},
	{"SAGEMAKER_SPEC", "A JSON or YAML file in the repository (path from its top), or a file-type variable, in the shape of AWS's CreateTrainingJob request. Variables win over it.", nil},
}

// foreign are SAGEMAKER_* variables that AWS's own tools read and users may
// have in their jobs: the SageMaker Python SDK, the training and inference
// toolkits. They go to the script and mean nothing to the executor.
var foreign = []string{
	"SAGEMAKER_ADMIN_CONFIG_OVERRIDE", "SAGEMAKER_USER_CONFIG_OVERRIDE",
	"SAGEMAKER_BASE_DIR", "SAGEMAKER_PROGRAM", "SAGEMAKER_SUBMIT_DIRECTORY", "SAGEMAKER_REQUIREMENTS",
	"SAGEMAKER_REGION", "SAGEMAKER_JOB_NAME", "SAGEMAKER_CONTAINER_LOG_LEVEL",
	"SAGEMAKER_MODEL_SERVER_{WORKERS,TIMEOUT}", "SAGEMAKER_BIND_TO_PORT", "SAGEMAKER_SAFE_PORT_RANGE",
}

// variables collects the job's SAGEMAKER_* variables by the name of their
// entry. An empty variable counts as unset. An unknown one is an error: a typing
// mistake must not cost an instance.
func (b *builder) variables() error {
	b.values = map[string][]value{}
	for _, key := range b.job.Variables.Keys() {
		if !strings.HasPrefix(key, varPrefix) || strings.HasPrefix(key, outPrefix) {
			continue
		}
		name, rest, ok := lookup(key)
		if !ok {
			if settings.Match(foreign, key) || settings.Match(b.set.Policy.IgnoredVariables, key) {
				continue
			}
			if e := family(key); e != "" {
				return failure.Invalid("the variable %s lacks the name at its end: write %s", key, e)
			}
			return failure.Invalid("unknown variable %s%s (the variables of this version are in docs/variables.md; policy.ignored_variables in the settings lists those of other tools)",
				key, suggest.Hint(key, names()))
		}
		variable, _ := b.job.Variables.Lookup(key)
		v := value{name: key, rest: rest, text: b.job.Variables.Value(key), file: variable.File}
		switch {
		case v.file:
			v.text = strings.TrimRight(v.text, "\r\n")
		case name != "SAGEMAKER_HP_<NAME>" && name != "SAGEMAKER_METRIC_<NAME>": // blanks may matter there
			v.text = strings.TrimSpace(v.text)
		}
		if v.text != "" {
			b.values[name] = append(b.values[name], v)
		}
	}
	return nil
}

// lookup finds the table's name for a variable, and the rest of a family.
func lookup(key string) (name, rest string, ok bool) {
	for _, e := range table {
		family, _, isFamily := strings.Cut(e.name, "<")
		switch {
		case !isFamily && key == e.name:
			return e.name, "", true
		case isFamily && strings.HasPrefix(key, family) && len(key) > len(family):
			return e.name, key[len(family):], true
		}
	}
	return "", "", false
}

// family finds the family of which a variable is the prefix alone.
func family(key string) string {
	for _, e := range table {
		if prefix, _, ok := strings.Cut(e.name, "<"); ok && key == prefix {
			return e.name
		}
	}
	return ""
}

func names() []string {
	var all []string
	for _, e := range table {
		all = append(all, e.name)
	}
	return all
}

// one returns the value of a variable that is no family.
func (b *builder) one(name string) (value, bool) {
	if vs := b.values[name]; len(vs) > 0 {
		return vs[0], true
	}
	return value{}, false
}

// apply merges all variables into the request.
func (b *builder) applyVariables() error {
	for _, e := range table {
		if e.apply == nil {
			continue
		}
		for _, v := range b.values[e.name] {
			if err := e.apply(b, v); err != nil {
				return err
			}
		}
	}
	return nil
}
