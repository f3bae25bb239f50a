package main

import (
	"errors"
	"path/filepath"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"

	localaws "gitlab.com/sagemaker-executor/sagemaker-executor/local/aws"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sagemaker/container"
)

// localCommand is what runs on one machine without an AWS account.
func localCommand() *cli.Command {
	return &cli.Command{
		Name:        "local",
		Usage:       "a local AWS, and GitLab pipelines on it",
		Subcommands: []*cli.Command{localAWSCommand()},
		Action:      needsSubcommand,
	}
}

func localAWSCommand() *cli.Command {
	var opts localaws.Options
	return &cli.Command{
		Name:  "aws",
		Usage: "serve S3, SageMaker, CloudWatch Logs and STS on one port; any access key is accepted",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:4566", Usage: "`ADDRESS` to listen on", Destination: &opts.Listen},
			&cli.StringFlag{Name: "data", Required: true, Usage: "`DIR`ectory of all state, made if missing", Destination: &opts.Data},
			&cli.StringFlag{Name: "region", Value: "us-east-1", Usage: "AWS `REGION`", Destination: &opts.Region},
			&cli.DurationFlag{Name: "start-delay", Usage: "how long a job waits for its instances", Destination: &opts.StartDelay},
			&cli.DurationFlag{Name: "upload-delay", Usage: "how much longer the upload of a model takes", Destination: &opts.UploadDelay},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			opts.Runtime = container.NewSandbox(filepath.Join(opts.Data, "images.json"))
			opts.Log = logrus.StandardLogger()
			return localaws.Run(c.Context, opts)
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
		return usageError{errors.New(c.Command.Name + " takes no arguments, only flags: " + c.Args().First())}
	}
	return nil
}
