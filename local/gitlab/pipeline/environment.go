package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/pelletier/go-toml/v2"
	"github.com/sirupsen/logrus"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/settings"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sagemaker/container"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab/ci"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab/runner"
)

// What the local AWS is given; nothing there depends on the values.
const (
	region  = "us-east-1"
	account = "123456789012"
	bucket  = "sagemaker-executor"
	role    = "arn:aws:iam::" + account + ":role/sagemaker-executor"
	keyID   = "AKIALOCALPIPELINE000"
	secret  = "local"

	// instance is the same for all runs: caches and checkpoints in a kept
	// directory are found again.
	instance = "10ca1000-0000-4000-a000-000000000000"
)

// environment is everything around the jobs: the local AWS, the coordinator and
// the runner.
type environment struct {
	dir         string
	lock        *os.File // of a temporary directory; nil when it is the user's
	started     time.Time
	aws         *aws.Server
	coordinator *gitlab.Coordinator
	runner      *gitlab.RunnerProcess
	log         *os.File
}

// startEnvironment starts all but the runner.
func startEnvironment(ctx context.Context, o Options) (e *environment, err error) {
	e = &environment{dir: o.Data, started: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	if e.dir == "" {
		if e.dir, e.lock, err = temporary(os.TempDir()); err != nil {
			return e, fmt.Errorf("a directory for the run: %w", err)
		}
	}
	if e.dir, err = filepath.Abs(e.dir); err != nil {
		return e, fmt.Errorf("a directory for the run: %w", err)
	}
	// Containers and sandboxes run as other users: they must get through.
	for _, sub := range []string{"aws", "artifacts", "runner", "work"} {
		if err := os.MkdirAll(filepath.Join(e.dir, sub), 0o755); err != nil {
			return e, fmt.Errorf("a directory for the run: %w", err)
		}
	}
	if err := os.Chmod(e.dir, 0o755); err != nil {
		return e, fmt.Errorf("a directory for the run: %w", err)
	}
	log, early := logrus.New(), &bytes.Buffer{}
	log.SetOutput(early)
	data := filepath.Join(e.dir, "aws")
	if e.aws, err = aws.Start(ctx, aws.Options{
		Listen: "127.0.0.1:0", Data: data, Region: region, Account: account,
		StartDelay: o.StartDelay, UploadDelay: o.UploadDelay,
		Runtime: container.NewSandbox(filepath.Join(data, "images.json")), Log: log,
	}); err != nil {
		return e, fmt.Errorf("start the local AWS: %w", err)
	}
	// Not before: the directory may be that of a running pipeline.
	if e.log, err = os.Create(filepath.Join(e.dir, "local.log")); err != nil {
		return e, fmt.Errorf("a log of the run: %w", err)
	}
	log.SetOutput(e.log)
	_, _ = early.WriteTo(e.log)
	if err := e.createBucket(ctx); err != nil {
		return e, err
	}
	e.coordinator, err = gitlab.New(gitlab.Options{
		Dir: filepath.Join(e.dir, "artifacts"), Log: log, InstanceUUID: instance,
		// What is kept of an earlier run holds its jobs' ids.
		FirstJobID: e.started.Unix() * 100,
	})
	return e, err
}

func (e *environment) createBucket(ctx context.Context) error {
	_, err := e.s3().CreateBucket(ctx, &s3.CreateBucketInput{Bucket: awssdk.String(bucket)})
	var exists *types.BucketAlreadyOwnedByYou
	if err != nil && !errors.As(err, &exists) {
		return fmt.Errorf("create the bucket: %w", err)
	}
	return nil
}

// startRunner starts the real runner with the executor's settings.
func (e *environment) startRunner(ctx context.Context, o Options, jobs []*ci.Job, p *printer) error {
	binary, err := e.findRunner(ctx, o, p)
	if err != nil {
		return err
	}
	file := filepath.Join(e.dir, "settings.toml")
	if err := e.writeSettings(file, o, binary, jobs); err != nil {
		return err
	}
	grace, err := stopTimes(file)
	if err != nil {
		return err
	}
	e.runner, err = gitlab.StartRunner(context.WithoutCancel(ctx), gitlab.RunnerOptions{
		Binary: binary, Coordinator: e.coordinator, Dir: filepath.Join(e.dir, "runner"),
		Custom:     &gitlab.CustomExecutor{Command: o.Executor, Settings: file, GracefulKillTimeout: grace.stage},
		Concurrent: o.Concurrent, Log: e.log,
		ShutdownTimeout: grace.runner, Kept: true,
		Env: []string{
			"AWS_ACCESS_KEY_ID=" + keyID, "AWS_SECRET_ACCESS_KEY=" + secret,
			"AWS_REGION=" + region, "AWS_EC2_METADATA_DISABLED=true",
		},
		Config: func(_, runner map[string]any) {
			// The time stamps are for the job page.
			runner["feature_flags"] = map[string]any{"FF_TIMESTAMPS": false}
		},
	})
	return err
}

// times are how long what is told to stop may take.
type times struct {
	stage  time.Duration // one of the executor's stages
	runner time.Duration // the runner: a stage, and cleanup after it
}

// stopTimes are long enough for the executor with these settings: a script's
// own time to stop, and half a minute for its output and result to arrive.
func stopTimes(file string) (times, error) {
	s, err := settings.Load(file, nil, nil)
	if err != nil {
		return times{}, err
	}
	stage := s.Agent.StopGrace.D() + time.Minute
	return times{stage: stage, runner: stage + time.Minute}, nil
}

func (e *environment) findRunner(ctx context.Context, o Options, p *printer) (string, error) {
	if o.Runner != "" {
		if _, err := os.Stat(o.Runner); err != nil {
			return "", fmt.Errorf("the runner: %w", err)
		}
		return filepath.Abs(o.Runner)
	}
	binary, err := gitlab.FindRunner()
	if !errors.Is(err, gitlab.ErrNoRunner) || os.Getenv(gitlab.RunnerEnv) != "" {
		return binary, err
	}
	binary = filepath.Join(e.dir, "bin", "gitlab-runner")
	p.notice("There is no gitlab-runner on the PATH: building one. The first time takes some minutes.")
	return binary, runner.Build(ctx, binary, e.log)
}

// writeSettings writes the executor's settings: the user's, and over them what
// only we know.
func (e *environment) writeSettings(file string, o Options, runnerBinary string, jobs []*ci.Job) error {
	settings := map[string]any{}
	if o.Settings != "" {
		text, err := os.ReadFile(o.Settings)
		if err == nil {
			err = toml.Unmarshal(text, &settings)
		}
		if err != nil {
			return fmt.Errorf("settings %s: %w", o.Settings, err)
		}
	}
	table := func(name string) map[string]any {
		if existing, ok := settings[name].(map[string]any); ok {
			return existing
		}
		settings[name] = map[string]any{}
		return settings[name].(map[string]any)
	}
	settings["region"], settings["endpoint_url"] = region, e.aws.URL
	settings["role_arn"], settings["bucket"] = role, bucket
	settings["work_dir"] = filepath.Join(e.dir, "work")
	host := table("host")
	if _, set := host["runner"]; !set {
		host["runner"] = runnerBinary
	}
	images := table("images")
	for _, job := range jobs {
		if image := job.Image(); image != "" {
			if _, set := images[image]; !set {
				images[image] = ecrImage(image)
			}
		}
	}
	// On one's own machine the host is nobody else's.
	if policy := table("policy"); policy["kinds"] == nil {
		policy["kinds"] = []string{"training", "host"}
	}
	text, err := toml.Marshal(settings)
	if err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	return nil
}

// ecrImage is the image's name in the registry of the local AWS account:
// SageMaker pulls from ECR alone, so that is what an administrator maps it to.
func ecrImage(image string) string {
	if strings.Contains(image, ".dkr.ecr.") {
		return image
	}
	return account + ".dkr.ecr." + region + ".amazonaws.com/" + image
}

// close ends everything, the runner first, so that it can clean up.
func (e *environment) close() error {
	var errs []error
	if e.runner != nil {
		errs = append(errs, e.runner.Stop())
	}
	if e.coordinator != nil {
		errs = append(errs, e.coordinator.Close())
	}
	if e.aws != nil {
		errs = append(errs, e.aws.Close())
	}
	if e.log != nil {
		errs = append(errs, e.log.Close())
	}
	if e.lock != nil {
		errs = append(errs, os.RemoveAll(e.dir), e.lock.Close())
	}
	return errors.Join(errs...)
}
