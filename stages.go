package main

import (
	"errors"
	"os"
	"time"

	"github.com/urfave/cli/v2"
	"gitlab.com/gitlab-org/gitlab-runner/executors/custom/api"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/agent"
)

// stageCommands are what GitLab Runner calls, and what the container does.
func stageCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name:  "config",
			Usage: "the runner's config_exec: read settings and job, print the driver's configuration",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "settings", Usage: "settings `FILE` (TOML)"},
				&cli.StringSliceFlag{Name: "set", Usage: "override a setting: `table.key=value`"},
			},
			Action: func(c *cli.Context) error {
				if err := noArguments(c); err != nil {
					return err
				}
				return executor.Config(c.Context, executor.ConfigOptions{
					Settings: c.String("settings"), Set: c.StringSlice("set"),
					Environ: os.Environ(), JobResponse: os.Getenv(api.JobResponseFileVariable),
					Version: version(), Now: time.Now(), Stdout: c.App.Writer,
				})
			},
		},
		{
			Name:  "prepare",
			Usage: "the runner's prepare_exec: check the job before anything costs money",
			Action: func(c *cli.Context) error {
				if err := noArguments(c); err != nil {
					return err
				}
				stage, err := stageOf(c)
				if err != nil {
					return err
				}
				return executor.Prepare(c.Context, stage)
			},
		},
		{
			Name:      "run",
			Usage:     "the runner's run_exec: run one of the job's scripts",
			ArgsUsage: "SCRIPT STAGE",
			Action: func(c *cli.Context) error {
				if c.NArg() != 2 {
					return usageError{errors.New("run takes two arguments: SCRIPT STAGE")}
				}
				stage, err := stageOf(c)
				if err != nil {
					return err
				}
				return executor.Run(c.Context, executor.RunOptions{Stage: stage, Script: c.Args().Get(0), Name: c.Args().Get(1)})
			},
		},
		{
			Name:  "cleanup",
			Usage: "the runner's cleanup_exec: stop and remove what the job left",
			Action: func(c *cli.Context) error {
				if err := noArguments(c); err != nil {
					return err
				}
				stage, err := stageOf(c)
				if err != nil {
					return err
				}
				return executor.Cleanup(c.Context, stage)
			},
		},
		{
			Name:   "agent",
			Usage:  "what runs inside the SageMaker container",
			Hidden: true,
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "exchange", Required: true},
				&cli.StringFlag{Name: "region", Required: true},
			},
			Action: func(c *cli.Context) error {
				if err := noArguments(c); err != nil {
					return err
				}
				return agent.Run(c.Context, agent.Options{Exchange: c.String("exchange"), Region: c.String("region")})
			},
		},
	}
}

// stageOf is what a stage gets from this process.
func stageOf(c *cli.Context) (executor.Stage, error) {
	self, err := os.Executable()
	if err != nil {
		return executor.Stage{}, err
	}
	return executor.Stage{Environ: os.Environ(), Executable: self, Stdout: c.App.Writer}, nil
}
