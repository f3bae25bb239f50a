package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange/archive"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange/match"
)

// gitlabEnv is the file behind $GITLAB_ENV (the runner's shells/abstract.go).
const gitlabEnv = "gitlab_runner_env"

// maxEnvLine is beyond what a process can have as one variable.
const maxEnvLine = 1 << 20

// finish sends home what the job keeps. Hosts other than the first just leave.
func (a *agent) finish(ctx context.Context) error {
	a.finished = true
	if a.host != exchange.FirstHost {
		return nil
	}
	if err := a.store.PutBytes(ctx, a.keys.FinishAck(), []byte(a.nonce)); err != nil {
		return fmt.Errorf("acknowledge the finish: %w", err)
	}
	if a.incarnation > 1 {
		_, err := exchange.GetJSON[exchange.OutputsInfo](ctx, a.store, a.keys.OutputsInfo())
		if err == nil || !errors.Is(err, exchange.ErrNotFound) {
			return err // an earlier incarnation has sent them
		}
	}
	info, err := a.outputs(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		info.Error = err.Error()
	}
	if err := exchange.PutJSON(ctx, a.store, a.keys.OutputsInfo(), info); err != nil {
		return fmt.Errorf("send the outputs: %w", err)
	}
	if info.Error != "" {
		return errors.New(info.Error)
	}
	return nil
}

// outputs packs and sends the files that the patterns select.
func (a *agent) outputs(ctx context.Context) (exchange.OutputsInfo, error) {
	var info exchange.OutputsInfo
	if a.lost {
		info.Lost = true
		return info, errors.New("the instance was taken away after the script had ended and before its files were sent: retry the job")
	}
	project, err := os.OpenRoot(a.job.ProjectDir)
	if err != nil {
		return info, fmt.Errorf("send the outputs: %w", err)
	}
	defer project.Close()
	tmp, err := os.OpenRoot(a.job.TmpDir)
	if err != nil {
		return info, fmt.Errorf("send the outputs: %w", err)
	}
	defer tmp.Close()

	info.Patterns, info.Warnings = match.Expand(slices.Concat(a.job.Artifacts, a.job.Cache), a.variables(tmp))
	found, err := match.Select(ctx, project, a.job.ProjectDir, info.Patterns)
	if err != nil {
		return info, fmt.Errorf("send the outputs: %w", err)
	}
	// That a pattern matches nothing is for the runner's own uploader to tell.
	for _, link := range found.Barred {
		info.Warnings = append(info.Warnings, fmt.Sprintf("%q is left out: it is a link out of the project, where nothing is looked for", link))
	}
	r, w := io.Pipe()
	packed := make(chan archive.Stats, 1)
	go func() {
		stats, err := archive.Pack(ctx, w, func(s string) { info.Warnings = append(info.Warnings, s) },
			archive.Tree{Name: archive.ProjectTree, Root: project, Files: slices.Values(found.All())},
			archive.Tree{Name: archive.TmpTree, Root: tmp, Files: slices.Values([]string{gitlabEnv})},
		)
		w.CloseWithError(err)
		packed <- stats
	}()
	err = a.store.Put(ctx, a.keys.Outputs(), r)
	r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	stats := <-packed
	if err != nil {
		return info, fmt.Errorf("send the outputs: %w", err)
	}
	info.Files, info.Bytes = stats.Files, stats.Bytes
	return info, nil
}

// variables looks up what patterns refer to: what the job wrote to $GITLAB_ENV,
// its variables, and the container's environment.
func (a *agent) variables(tmp *os.Root) func(string) string {
	written := map[string]string{}
	if f, err := tmp.Open(gitlabEnv); err == nil {
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, maxEnvLine)
		for lines.Scan() {
			// As the runner's scripts read it: while read -r line; do export "$line".
			if k, v, ok := strings.Cut(lines.Text(), "="); ok {
				written[strings.TrimLeft(k, " \t")] = v
			}
		}
	}
	container := map[string]string{}
	for _, kv := range a.env {
		k, v, _ := strings.Cut(kv, "=")
		container[k] = v
	}
	return func(name string) string {
		for _, m := range []map[string]string{written, a.job.Variables, container} {
			if v, ok := m[name]; ok {
				return v
			}
		}
		return ""
	}
}
