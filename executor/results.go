package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssagemaker "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/bmatcuk/doublestar/v4"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker"
)

// Results of a job. They begin with SAGEMAKER_OUT_, for a dotenv variable
// outranks the variables of the jobs that get it: a result must never bear the
// name of a setting.
const (
	resultPrefix = "SAGEMAKER_OUT_"
	// resultFile is the dotenv report with the results, in the project.
	resultFile = "sagemaker.env"
	// prefixVariable keeps the results of parallel jobs apart.
	prefixVariable = "SAGEMAKER_OUT_PREFIX"
	// gitlabEnvFile is where the runner's scripts keep GITLAB_ENV, in the
	// directory for temporary files.
	gitlabEnvFile = "gitlab_runner_env"
)

// resultLines are the results in the form of a dotenv file.
func (t *training) resultLines() string {
	prefix := resultPrefix
	if p := envName(t.job.Variables.Get(prefixVariable)); p != "" {
		prefix += p + "_"
	}
	var b strings.Builder
	for _, r := range [][2]string{
		{"TRAINING_JOB_NAME", t.state.Name},
		{"MODEL_DATA", t.state.ModelURI},
		{"INSTANCE_TYPE", t.state.InstanceType},
		{"CONSOLE_URL", sagemaker.ConsoleURL(t.region(), t.state.Name)},
	} {
		// GitLab's dotenv reports know no quoting.
		if r[1] != "" && !strings.ContainsAny(r[1], " \t\r\n\"'") {
			fmt.Fprintf(&b, "%s%s=%s\n", prefix, r[0], r[1])
		}
	}
	return b.String()
}

// envName maps a text to what a variable's name may hold.
func envName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			return r
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		}
		return '_'
	}, s)
}

func (t *training) region() string {
	if t.clients != nil {
		return t.clients.Region
	}
	return t.settings.Region
}

// results writes the job's results where the job can use them: to GITLAB_ENV's
// file if the job has one, and to sagemaker.env if an artifact asks for it.
func (t *training) results(project string) error {
	root, err := t.projectRoot(path.Dir(project))
	if err != nil {
		return err
	}
	defer root.Close()
	uid, gid, err := t.host.Owner()
	if err != nil {
		return err
	}
	name := path.Base(project)
	lines := t.resultLines()
	if t.wantsResultFile() {
		file := filepath.Join(name, resultFile)
		// The project's content is hostile: a link of that name is replaced,
		// never followed.
		if err := root.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("write %s: %w", resultFile, err)
		}
		if err := write(root, file, os.O_CREATE|os.O_EXCL, lines); err != nil {
			return err
		}
		if err := root.Lchown(file, uid, gid); err != nil {
			return fmt.Errorf("write %s: %w", resultFile, err)
		}
	}
	env := filepath.Join(name+".tmp", gitlabEnvFile)
	info, err := root.Lstat(env)
	if err != nil || !info.Mode().IsRegular() {
		return nil //nolint:nilerr // no GITLAB_ENV
	}
	return write(root, env, os.O_APPEND, lines)
}

func write(root *os.Root, name string, flag int, content string) error {
	f, err := root.OpenFile(name, os.O_WRONLY|flag, 0o644)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(name), err)
	}
	_, err = f.WriteString(content)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(name), err)
	}
	return nil
}

// wantsResultFile tells whether an artifact of the job can mean sagemaker.env.
// Otherwise it is not written, and the artifacts of a job are the same as
// anywhere else.
func (t *training) wantsResultFile() bool {
	for _, a := range t.job.Artifacts {
		if slices.ContainsFunc(a.Paths, func(pattern string) bool {
			expanded := path.Clean(t.job.Variables.Expand(pattern))
			if a.Type == "dotenv" {
				ok, err := doublestar.Match(expanded, resultFile)
				return ok && err == nil
			}
			return expanded == resultFile
		}) {
			return true
		}
	}
	return false
}

// summarize closes the job log with what the training job was and cost.
func (t *training) summarize(ctx context.Context, d *awssagemaker.DescribeTrainingJobOutput) {
	end := t.log.Section("sagemaker_summary", "SageMaker summary", false)
	defer end()
	name := aws.ToString(d.TrainingJobName)
	pairs := [][2]string{{"Training job", fmt.Sprintf("%s: %s", name, d.TrainingJobStatus)}}
	add := func(label, format string, a ...any) {
		pairs = append(pairs, [2]string{label, fmt.Sprintf(format, a...)})
	}
	if r := d.ResourceConfig; r != nil && r.InstanceType != "" {
		add("Instances", "%d × %s", max(1, aws.ToInt32(r.InstanceCount)), r.InstanceType)
	}
	seconds := func(n *int32) time.Duration { return time.Duration(aws.ToInt32(n)) * time.Second }
	training, billable := seconds(d.TrainingTimeInSeconds), seconds(d.BillableTimeInSeconds)
	add("Billable time", "%s of %s", billable, training)
	if aws.ToBool(d.EnableManagedSpotTraining) && billable < training {
		add("Spot savings", "%.0f%%", 100*(1-billable.Seconds()/training.Seconds()))
	}
	if t.state.PeakMemory > 0 {
		add("Peak memory", "%s (largest process)", megabytes(t.state.PeakMemory))
	}
	if uri := t.modelData(ctx, d); uri != "" {
		add("Model data", "%s", uri)
	}
	for _, m := range d.FinalMetricDataList {
		add("Metric "+aws.ToString(m.MetricName), "%g", aws.ToFloat32(m.Value))
	}
	if w := d.WarmPoolStatus; w != nil {
		add("Warm pool", "%s", w.Status)
	}
	add("Console", "%s", sagemaker.ConsoleURL(t.region(), name))
	t.log.Summary(pairs...)
}
