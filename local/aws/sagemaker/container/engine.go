package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// engineLabel marks the containers of one server, so that the next one on the
// same directory can remove what a killed one left.
const engineLabel = "sagemaker-executor.local"

// Exit codes of "docker run" and "podman run" themselves.
const engineFailed = 125

// Engine runs containers with a container engine's command line: images are
// real ones, pulled when they are not there.
type Engine struct {
	program []string
	owner   string
	count   atomic.Int64

	sweeping sync.Once
	swept    error
}

// NewEngine makes the runtime. command is "podman" or "docker", with global
// flags if there are any ("podman --runtime runc"); owner tells this server's
// containers from another's, its data directory for instance. Containers that
// an earlier server of that owner left are removed when the first one is asked
// for: the server knows by then that it is the owner's only one.
func NewEngine(ctx context.Context, command, owner string) (*Engine, error) {
	e := &Engine{program: strings.Fields(command), owner: owner}
	if len(e.program) == 0 {
		return nil, errors.New("container engine: no command given; podman and docker are known")
	}
	if _, err := e.left(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Engine) command(ctx context.Context, args ...string) *exec.Cmd {
	all := slices.Concat(e.program[1:], args)
	return exec.CommandContext(ctx, e.program[0], all...)
}

// output runs the engine to its end; the error holds what it said.
func (e *Engine) output(ctx context.Context, args ...string) (string, error) {
	cmd := e.command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", e.program[0], args[0], err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// left lists the owner's containers.
func (e *Engine) left(ctx context.Context) ([]string, error) {
	ids, err := e.output(ctx, "ps", "--all", "--quiet", "--filter", "label="+engineLabel+"="+e.owner)
	if err != nil {
		return nil, fmt.Errorf("container engine: %w", err)
	}
	return strings.Fields(ids), nil
}

// sweep removes, once, what an earlier server left.
func (e *Engine) sweep(ctx context.Context) error {
	e.sweeping.Do(func() {
		ids, err := e.left(ctx)
		if err == nil && len(ids) > 0 {
			_, err = e.output(ctx, slices.Concat([]string{"rm", "--force"}, ids)...)
		}
		e.swept = err
	})
	return e.swept
}

// Check implements Runtime: it pulls the image where it is not there.
func (e *Engine) Check(ctx context.Context, image string) error {
	if err := e.sweep(ctx); err != nil {
		return err
	}
	if _, err := e.output(ctx, "image", "inspect", image); err == nil {
		return nil
	}
	cmd := e.command(ctx, "pull", "--quiet", image)
	said, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &ImageError{Image: image, Reason: strings.TrimSpace(string(said))}
	}
	return err
}

// Start implements Runtime. A program that is not in the image ends the
// container with 127 and the engine's words in its log.
func (e *Engine) Start(ctx context.Context, spec Spec) (Process, error) {
	if err := e.sweep(ctx); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("sagemaker-%d-%d-%s", os.Getpid(), e.count.Add(1), spec.Hostname)
	args := []string{"run", "--name", name, "--label", engineLabel + "=" + e.owner, "--hostname", spec.Hostname}
	network := "host"
	if spec.Isolated {
		network = "none"
	}
	args = append(args, "--network", network)
	for host, address := range spec.Hosts {
		if host != "localhost" {
			args = append(args, "--add-host", host+":"+address)
		}
	}
	mounts, err := spec.engineMounts()
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		args = append(args, "--mount", m)
	}
	if spec.Memory > 0 {
		args = append(args, "--memory", strconv.FormatInt(spec.Memory, 10))
	}
	env := os.Environ()
	for _, v := range spec.Env { // by name: values are not for the process list
		n, _, _ := strings.Cut(v, "=")
		args = append(args, "--env", n)
		env = append(env, v)
	}
	command := spec.Args
	if len(spec.Entrypoint) > 0 {
		args = append(args, "--entrypoint", spec.Entrypoint[0])
		command = slices.Concat(spec.Entrypoint[1:], command)
	} else if len(command) == 0 && spec.DefaultArg != "" {
		command = []string{spec.DefaultArg}
	}
	args = slices.Concat(args, []string{spec.Image}, command)
	cmd := e.command(ctx, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, spec.Output, spec.Output
	p := &engineProcess{engine: e, name: name, cmd: cmd}
	cmd.Cancel = p.Kill
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the container: %w", err)
	}
	return p, nil
}

// engineMounts are the spec's mounts and files as --mount takes them.
func (s *Spec) engineMounts() ([]string, error) {
	var list []string
	add := func(source, target string, readOnly bool) error {
		if strings.ContainsAny(source+target, ",\"\n") {
			return fmt.Errorf("a container engine cannot mount %q on %q", source, target)
		}
		m := "type=bind,source=" + source + ",target=" + target
		if readOnly {
			m += ",readonly"
		}
		list = append(list, m)
		return nil
	}
	for target, content := range s.Files {
		file, err := os.CreateTemp(s.Scratch, "file-")
		if err != nil {
			return nil, err
		}
		_, err = file.Write(content)
		if err := errors.Join(err, file.Chmod(0o644), file.Close()); err != nil {
			return nil, err
		}
		if err := add(file.Name(), target, true); err != nil {
			return nil, err
		}
	}
	for _, m := range s.Mounts {
		if err := add(m.Source, m.Target, m.ReadOnly); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// engineProcess is a container of an engine.
type engineProcess struct {
	engine *Engine
	name   string
	cmd    *exec.Cmd
}

// Signal implements Process. The engine's own client passes it on.
func (p *engineProcess) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Kill implements Process. It works when the context is done, too.
func (p *engineProcess) Kill() error {
	if _, err := p.engine.output(context.Background(), "kill", p.name); err != nil {
		return p.cmd.Process.Kill() // the container is not there yet, or not any more
	}
	return nil
}

// Wait implements Process.
func (p *engineProcess) Wait() (Exit, error) {
	err := p.cmd.Wait()
	ctx := context.Background() // also when the server is on its way out
	state, inspectErr := p.engine.output(ctx, "inspect", "--format", "{{.State.Status}} {{.State.OOMKilled}}", p.name)
	if inspectErr == nil {
		if _, rmErr := p.engine.output(ctx, "rm", "--force", p.name); rmErr != nil {
			return Exit{}, rmErr
		}
	}
	status, oom, _ := strings.Cut(state, " ")
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == engineFailed && status != "exited":
		return Exit{}, fmt.Errorf("%s could not run the container: %w", p.engine.program[0], err)
	case errors.As(err, &exit) && exit.ExitCode() < 0: // the client was killed, and the container with it
		return Exit{Code: 137, OOMKilled: oom == "true"}, nil
	case errors.As(err, &exit):
		return Exit{Code: exit.ExitCode(), OOMKilled: oom == "true"}, nil
	}
	return Exit{}, err
}
