package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"

	localaws "gitlab.com/sagemaker-executor/sagemaker-executor/local/aws"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sagemaker/container"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab/pipeline"
)

// localCommand is what runs on one machine without an AWS account.
func localCommand() *cli.Command {
	return &cli.Command{
		Name:        "local",
		Usage:       "a local AWS, and GitLab pipelines on it",
		Subcommands: []*cli.Command{localAWSCommand(), localPipelineCommand()},
		Action:      needsSubcommand,
	}
}

func localAWSCommand() *cli.Command {
	var opts localaws.Options
	var engine string
	return &cli.Command{
		Name:            "aws",
		HideHelpCommand: true,
		Usage:           "serve S3, SageMaker, CloudWatch Logs and STS on one port; any access key is accepted",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:4566", Usage: "`ADDRESS` to listen on", Destination: &opts.Listen},
			&cli.StringFlag{Name: "data", Usage: "`DIR` of all state, made if missing; required", Destination: &opts.Data},
			&cli.StringFlag{Name: "region", Value: "us-east-1", Usage: "AWS `REGION`", Destination: &opts.Region},
			&cli.DurationFlag{Name: "start-delay", Usage: "how long (`DURATION`) a job waits for its instances", Destination: &opts.StartDelay},
			&cli.DurationFlag{Name: "upload-delay", Usage: "how much longer (`DURATION`) the upload of a model takes", Destination: &opts.UploadDelay},
			&cli.DurationFlag{Name: "stop-grace", Usage: "how long (`DURATION`) a stopped job has between SIGTERM and SIGKILL; 0: 120s, as AWS", Destination: &opts.StopGrace},
			&cli.BoolFlag{Name: "tls", Usage: "serve HTTPS with a certificate of an authority of our own, DIR/ca.pem", Destination: &opts.TLS},
			&cli.StringFlag{Name: "tls-cert", Usage: "serve HTTPS with the certificate in this PEM `FILE`", Destination: &opts.TLSCert},
			&cli.StringFlag{Name: "tls-key", Usage: "PEM `FILE` with the key of --tls-cert", Destination: &opts.TLSKey},
			&cli.StringFlag{Name: "engine", Usage: "run real images with `COMMAND`, podman or docker, instead of this machine's system in a sandbox", Destination: &engine},
			&cli.StringFlag{Name: "faults", Usage: "JSON `FILE` with what shall go wrong", Destination: &opts.Faults},
			&cli.StringFlag{Name: "roles", Usage: "JSON `FILE` with IAM roles: switches access control on", Destination: &opts.Roles},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if opts.Data == "" {
				return usageError{errors.New("local aws needs --data DIR, the directory of all its state")}
			}
			runtime, err := containerRuntime(c.Context, engine, opts.Data)
			if err != nil {
				return err
			}
			opts.Runtime = runtime
			opts.Log = logrus.StandardLogger()
			return localaws.Run(c.Context, opts)
		},
	}
}

// containerRuntime is what runs the jobs' containers: an engine when one is
// named, else the sandbox, which needs none.
func containerRuntime(ctx context.Context, engine, data string) (container.Runtime, error) {
	if engine != "" {
		owner, err := filepath.Abs(data)
		if err != nil {
			return nil, err
		}
		return container.NewEngine(ctx, engine, owner)
	}
	return container.NewSandbox(filepath.Join(data, "images.json")), nil
}

func localPipelineCommand() *cli.Command {
	var opts pipeline.Options
	var variables, masked, files, play, tags cli.StringSlice
	return &cli.Command{
		Name:            "pipeline",
		HideHelpCommand: true,
		Usage:           "run the .gitlab-ci.yml of a git repository on the local AWS, with a real GitLab Runner",
		ArgsUsage:       "[DIR]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "artifacts", Usage: "unpack the jobs' artifacts into `DIR`, one directory a job", Destination: &opts.Artifacts},
			&cli.StringFlag{Name: "runner", Usage: "gitlab-runner `BINARY` (default: the one on the PATH, else one is built)", Destination: &opts.Runner},
			&cli.StringFlag{Name: "ref", Usage: "run this `REF`: a branch, tag or commit (default: HEAD)", Destination: &opts.Ref},
			&cli.StringFlag{Name: "file", Value: ".gitlab-ci.yml", Usage: "the configuration's `PATH` in the repository", Destination: &opts.File},
			&cli.StringFlag{Name: "default-branch", Usage: "`BRANCH` whose jobs are protected (default: that of the remote origin, else main or master)", Destination: &opts.DefaultBranch},
			&cli.StringSliceFlag{Name: "variable", Usage: "CI/CD variable `KEY=VALUE`; may be repeated", Destination: &variables},
			&cli.StringSliceFlag{Name: "masked-variable", Usage: "CI/CD variable `KEY=VALUE`, masked in the logs; may be repeated", Destination: &masked},
			&cli.StringSliceFlag{Name: "variable-file", Usage: "CI/CD variable of the type file, `KEY=PATH`; may be repeated", Destination: &files},
			&cli.StringSliceFlag{Name: "play", Usage: "run the manual `JOB`, too; may be repeated", Destination: &play},
			&cli.StringSliceFlag{Name: "tag", Usage: "`TAG` that the runner has; may be repeated (default: sagemaker)", Destination: &tags},
			&cli.StringFlag{Name: "settings", Usage: "TOML `FILE` with settings of the executor (policy, defaults, ...)", Destination: &opts.Settings},
			&cli.StringFlag{Name: "data", Usage: "keep the local AWS, caches and models in `DIR` for the next run (default: a temporary one)", Destination: &opts.Data},
			&cli.IntFlag{Name: "concurrent", Usage: "`NUMBER` of jobs at once; 0: that of the processors", Destination: &opts.Concurrent},
			&cli.DurationFlag{Name: "start-delay", Usage: "how long (`DURATION`) a SageMaker job waits for its instances", Destination: &opts.StartDelay},
			&cli.DurationFlag{Name: "upload-delay", Usage: "how much longer (`DURATION`) the upload of a model takes", Destination: &opts.UploadDelay},
			&cli.StringFlag{Name: "color", Value: "auto", Usage: "`WHEN`: auto, always or never", Destination: &opts.Color},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usageError{errors.New("local pipeline takes one directory, not also " + c.Args().Get(1))}
			}
			opts.Dir = c.Args().First()
			opts.Variables, opts.MaskedVariables = variables.Value(), masked.Value()
			opts.VariableFiles, opts.Play, opts.Tags = files.Value(), play.Value(), tags.Value()
			opts.Out = c.App.Writer
			return pipeline.Run(c.Context, opts)
		},
	}
}

func needsSubcommand(c *cli.Context) error {
	if name := c.Args().First(); name != "" {
		return usageError{errors.New("unknown command " + c.Command.Name + " " + name)}
	}
	return cli.ShowSubcommandHelp(c)
}

func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usageError{fmt.Errorf("%s takes no arguments: %q", c.Command.Name, c.Args().First())}
	}
	return nil
}
