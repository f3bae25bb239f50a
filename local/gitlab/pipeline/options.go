// Package pipeline runs the .gitlab-ci.yml of a git repository on one machine:
// it starts a local AWS and a coordinator, lets a real GitLab Runner with this
// project's executor run the jobs in the order that GitLab would run them,
// prints their logs, and keeps their artifacts.
package pipeline

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// Options say what to run and how.
type Options struct {
	// Dir is the git repository; empty is the working directory.
	Dir string
	// File is the configuration's path in the repository; empty is
	// .gitlab-ci.yml.
	File string
	// Ref is the branch, tag or commit to run; empty is HEAD.
	Ref string
	// DefaultBranch is CI_DEFAULT_BRANCH, whose jobs are protected; empty is
	// what the remote "origin" says, else main or master.
	DefaultBranch string
	// Artifacts is a directory for the jobs' artifacts, unpacked, one directory
	// a job; empty keeps none.
	Artifacts string
	// Runner is a gitlab-runner binary; empty is the one of the environment
	// variable SAGEMAKER_EXECUTOR_RUNNER or of the PATH, else one is built.
	Runner string
	// Executor is the sagemaker-executor binary; empty is this process's.
	Executor string
	// Settings is a TOML file with settings of the executor for this run
	// (policy, defaults, waits, ...). Region, endpoint, bucket and images are
	// set on top of it.
	Settings string
	// Variables ("KEY=VALUE") are as those in a project's CI/CD settings: they
	// outrank the file's.
	Variables []string
	// MaskedVariables are the same, and masked in the job logs.
	MaskedVariables []string
	// VariableFiles ("KEY=PATH") are variables of the type file.
	VariableFiles []string
	// Play are the names of manual jobs to run as well.
	Play []string
	// Tags are the tags that the runner has; empty is "sagemaker".
	Tags []string
	// Concurrent is how many jobs run at once; 0 is one for each processor.
	Concurrent int
	// Data is a directory for the local AWS (S3, models, logs), caches and the
	// runner, kept for the next run; empty is a temporary one.
	Data string
	// StartDelay and UploadDelay make the local SageMaker as slow as a real one.
	StartDelay, UploadDelay time.Duration
	// Out gets the job logs and the closing table; nil is standard output.
	Out io.Writer
	// Color says whether Out shows colours: "auto" (the default: when it is a
	// terminal), "always" or "never".
	Color string
}

// ErrFailed says that the pipeline did not pass.
var ErrFailed = errors.New("the pipeline failed")

func (o *Options) defaults() error {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&o.Dir, ".")
	set(&o.File, ".gitlab-ci.yml")
	if len(o.Tags) == 0 {
		o.Tags = []string{"sagemaker"}
	}
	if o.Concurrent < 0 {
		return fmt.Errorf("concurrent %d: allowed is 0 (one job a processor) or more", o.Concurrent)
	}
	if o.Concurrent == 0 {
		o.Concurrent = runtime.NumCPU()
	}
	if o.Out == nil {
		o.Out = os.Stdout
	}
	switch o.Color {
	case "", "auto":
		o.Color = "never"
		if file, ok := o.Out.(*os.File); ok {
			if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" {
				o.Color = "always"
			}
		}
	case "always", "never":
	default:
		return fmt.Errorf("color %q: allowed is auto, always, never", o.Color)
	}
	if o.Executor == "" {
		executable, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the executor's binary: %w", err)
		}
		o.Executor = executable
	}
	for _, path := range []*string{&o.Dir, &o.Executor} {
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("%s: %w", *path, err)
		}
		*path = absolute
	}
	return nil
}

// variables are the variables that the user gave.
func (o *Options) variables() ([]gitlab.Variable, error) {
	var variables []gitlab.Variable
	add := func(option string, entries []string, change func(*gitlab.Variable) error) error {
		for _, entry := range entries {
			key, value, ok := strings.Cut(entry, "=")
			if !ok || key == "" {
				return fmt.Errorf("%s %q: write it as KEY=VALUE", option, entry)
			}
			variable := gitlab.Variable{Key: key, Value: value}
			if err := change(&variable); err != nil {
				return fmt.Errorf("%s %s: %w", option, key, err)
			}
			variables = append(variables, variable)
		}
		return nil
	}
	err := errors.Join(
		add("variable", o.Variables, func(*gitlab.Variable) error { return nil }),
		add("masked variable", o.MaskedVariables, func(v *gitlab.Variable) error {
			v.Masked = true
			return nil
		}),
		add("variable file", o.VariableFiles, func(v *gitlab.Variable) error {
			content, err := os.ReadFile(v.Value)
			v.Value, v.File = string(content), true
			return err
		}),
	)
	return variables, err
}
