// Command sagemaker-executor runs GitLab CI jobs inside AWS SageMaker. It is a
// custom executor of GitLab Runner, the agent that runs in the SageMaker
// container, and a local SageMaker to try both without an AWS account.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/agent"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	err := newApp().RunContext(ctx, flagsFirst(commands(), os.Args))
	report(ctx, os.Stderr, err)
	stop()
	os.Exit(exitCode(err, os.Getenv))
}

// report prints the one sentence of a failure; a script's own exit code has
// none, since the runner reports it. Who sent a signal need not be told, either:
// what it interrupted failed because of it.
func report(ctx context.Context, w io.Writer, err error) {
	switch {
	case err == nil, err.Error() == "", errors.Is(err, executor.ErrStopped):
		return
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return
	}
	var script *agent.ExitError
	if errors.As(err, &script) {
		return // the agent has told CloudWatch
	}
	for _, sentence := range sentences(err) {
		fmt.Fprintln(w, "sagemaker-executor:", sentence)
	}
}

// sentences are the messages of an error: those of errors.Join are several.
func sentences(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || err.Error() != errors.Join(joined.Unwrap()...).Error() {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, sentences(e)...)
	}
	return all
}

func commands() []*cli.Command {
	all := append(stageCommands(), localCommand())
	tellUsage(all)
	return all
}

// tellUsage makes a mistake in a command line one sentence, without the help.
func tellUsage(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = usage
		tellUsage(c.Subcommands)
	}
}

func usage(_ *cli.Context, err error, _ bool) error { return usageError{err} }

func newApp() *cli.App {
	return &cli.App{
		Name:            "sagemaker-executor",
		Usage:           "run GitLab CI jobs inside AWS SageMaker",
		Version:         version(),
		HideHelpCommand: true,
		// A comma is part of a value: --set policy.instance_types=ml.m5.*,ml.g5.*
		DisableSliceFlagSeparator: true,
		Commands:                  commands(),
		// main alone ends the process and prints what went wrong.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   usage,
		Action: func(c *cli.Context) error {
			if name := c.Args().First(); name != "" {
				return usageError{fmt.Errorf("unknown command %q; see sagemaker-executor --help", name)}
			}
			return cli.ShowAppHelp(c)
		},
	}
}
