package gitlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pelletier/go-toml/v2"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab/internal/keeper"
)

// RunnerEnv names the environment variable that says which gitlab-runner
// binary to use.
const RunnerEnv = "SAGEMAKER_EXECUTOR_RUNNER"

// ErrNoRunner says that there is no gitlab-runner binary.
var ErrNoRunner = errors.New("no gitlab-runner binary")

// FindRunner finds a gitlab-runner binary: the one that the environment
// variable SAGEMAKER_EXECUTOR_RUNNER names, else the first of the candidates
// that exists, else the one on the PATH.
func FindRunner(candidates ...string) (string, error) {
	if named := os.Getenv(RunnerEnv); named != "" {
		if _, err := os.Stat(named); err != nil {
			return "", fmt.Errorf("%w: %s=%s: %w", ErrNoRunner, RunnerEnv, named, err)
		}
		return filepath.Abs(named)
	}
	for _, candidate := range candidates {
		if info, err := os.Stat(candidate); err == nil && info.Mode().IsRegular() {
			return filepath.Abs(candidate)
		}
	}
	if found, err := exec.LookPath("gitlab-runner"); err == nil {
		return filepath.Abs(found)
	}
	return "", fmt.Errorf("%w: set %s, or put gitlab-runner on the PATH", ErrNoRunner, RunnerEnv)
}

// CustomExecutor says how the runner calls a custom executor.
type CustomExecutor struct {
	// Command is the executor's binary.
	Command string
	// Settings is passed to the config stage as --settings FILE, if not empty.
	Settings string
	// ConfigArgs, PrepareArgs, RunArgs and CleanupArgs override the arguments
	// of the four stages ("config --settings FILE", "prepare", "run", "cleanup").
	ConfigArgs, PrepareArgs, RunArgs, CleanupArgs []string
	// GracefulKillTimeout is graceful_kill_timeout, in whole seconds; 0 is a
	// minute (the runner's own default is ten).
	GracefulKillTimeout time.Duration
	// ForceKillTimeout is force_kill_timeout; 0 is the runner's default.
	ForceKillTimeout time.Duration
}

// RunnerOptions sets up a real runner.
type RunnerOptions struct {
	// Binary is the gitlab-runner to start; see FindRunner.
	Binary string
	// Coordinator is the server that it asks for jobs.
	Coordinator *Coordinator
	// Dir is a directory of the runner's own: HOME, TMPDIR, config.toml, builds
	// and cache lie there. It must exist and is the caller's to remove.
	Dir string
	// Custom is the executor; nil is the runner's own shell executor.
	Custom *CustomExecutor
	// Concurrent is how many jobs run at once; 0 is one.
	Concurrent int
	// OutputLimit is output_limit in kilobytes; 0 is the runner's default (4096).
	OutputLimit int
	// ShutdownTimeout is how long the runner waits for its jobs after SIGTERM;
	// 0 is 30 s.
	ShutdownTimeout time.Duration
	// Environment is "NAME=value" for all jobs, as environment in config.toml.
	Environment []string
	// Env is added to the environment of the runner's process, which the custom
	// executor inherits (AWS credentials, for example).
	Env []string
	// Config, if set, may change the tables of config.toml before it is written:
	// global is the file, runner its only [[runners]].
	Config func(global, runner map[string]any)
	// Log gets the runner's own log; nil keeps the last of it for error messages.
	Log io.Writer
	// Kept makes all that the runner starts end with it, in whatever way it ends
	// (Kill, too), and both with this process, even one that is killed. Without
	// it executors outlive a runner that does not wait for them.
	Kept bool
}

// RunnerProcess is a running gitlab-runner.
type RunnerProcess struct {
	cmd      *exec.Cmd
	log      *tail
	shutdown time.Duration
	leash    io.Closer // closed, a keeper kills all; nil without one
	done     chan struct{}
	err      error
}

// StartRunner writes a config.toml and starts "gitlab-runner run" with it. The
// process ends with Stop, with ctx, or with this process.
func StartRunner(ctx context.Context, options RunnerOptions) (*RunnerProcess, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	binary, err := filepath.Abs(options.Binary)
	if err != nil || options.Binary == "" {
		return nil, fmt.Errorf("start the runner: %w", errors.Join(ErrNoRunner, err))
	}
	dir, err := filepath.Abs(options.Dir)
	if err != nil || options.Dir == "" {
		return nil, errors.New("start the runner: it needs a directory of its own")
	}
	for _, sub := range []string{"home", "tmp", "bin", "builds", "cache", "work"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("start the runner: %w", err)
		}
	}
	setDefault(&options.ShutdownTimeout, 30*time.Second)
	config, err := runnerConfig(options, dir)
	if err != nil {
		return nil, fmt.Errorf("start the runner: %w", err)
	}
	configFile := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(configFile, config, 0o600); err != nil {
		return nil, fmt.Errorf("start the runner: %w", err)
	}
	// Scripts call "gitlab-runner" by this name, whatever the binary's is.
	path := filepath.Dir(binary)
	if filepath.Base(binary) != "gitlab-runner" {
		path = filepath.Join(dir, "bin")
		if err := os.Symlink(binary, filepath.Join(path, "gitlab-runner")); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("start the runner: %w", err)
		}
	}

	p := &RunnerProcess{log: &tail{also: options.Log}, shutdown: options.ShutdownTimeout, done: make(chan struct{})}
	// Not killed when ctx ends, but stopped: see below.
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), binary, "run", "--config", configFile, "--working-directory", filepath.Join(dir, "work"))
	p.cmd.Dir = filepath.Join(dir, "work")
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.Env = append(runnerEnv(os.Environ()),
		"HOME="+filepath.Join(dir, "home"),
		"TMPDIR="+filepath.Join(dir, "tmp"),
		"PATH="+path+string(os.PathListSeparator)+os.Getenv("PATH"),
	)
	p.cmd.Env = append(p.cmd.Env, options.Env...)
	// A group of its own, so that a terminal's Ctrl-C reaches only us: the
	// jobs are then cancelled in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	p.cmd.WaitDelay = 2 * time.Second
	if options.Kept {
		if err := p.keep(); err != nil {
			return nil, fmt.Errorf("start the runner: %w", err)
		}
	}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start the runner: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = p.Stop() })
	return p, nil
}

// keep puts a keeper between this process and the runner.
func (p *RunnerProcess) keep() error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	p.leash, p.cmd.Stdin = write, read
	p.cmd.Args = append([]string{keeper.Name, p.cmd.Path}, p.cmd.Args[1:]...)
	p.cmd.Path = "/proc/self/exe"
	p.cmd.SysProcAttr.Pdeathsig = 0 // the pipe tells the keeper, and it has to live a little longer
	return nil
}

// run starts the process and waits for it on one thread: the death signal comes
// when the thread that started the process ends.
func (p *RunnerProcess) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	if read, kept := p.cmd.Stdin.(io.Closer); kept {
		_ = read.Close() // the keeper has it
	}
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
	}
	if p.leash != nil {
		_ = p.leash.Close()
	}
	close(p.done)
}

// Log is the end of the runner's own log.
func (p *RunnerProcess) Log() string { return p.log.String() }

// Done is closed when the runner has ended.
func (p *RunnerProcess) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the runner: SIGTERM aborts its jobs, SIGQUIT lets
// them end.
func (p *RunnerProcess) Signal(signal syscall.Signal) error {
	return p.cmd.Process.Signal(signal)
}

// Stop ends the runner: SIGTERM, so that it cleans up after running jobs, and
// SIGKILL when it does not go. It returns when the process is gone. Stopping a
// runner that has ended is no error.
func (p *RunnerProcess) Stop() error {
	select {
	case <-p.done:
		return nil
	default:
	}
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(p.shutdown + 5*time.Second):
	}
	p.Kill()
	return fmt.Errorf("the runner did not end within %s of SIGTERM and was killed; its log ends:\n%s", p.shutdown, p.Log())
}

// Kill ends the runner with SIGKILL, as a crash would: its jobs' processes go
// on without it, unless they are kept. It returns when the process is gone.
func (p *RunnerProcess) Kill() {
	if p.leash != nil {
		_ = p.leash.Close()
	} else {
		_ = p.cmd.Process.Kill()
	}
	<-p.done
}

// runnerEnv leaves out what would change how the runner, git or the executor
// behaves: CI variables of a job that we may be part of, git's own, and AWS
// credentials, which nobody passes on by accident.
func runnerEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		for _, prefix := range []string{"CI_", "CI=", "GITLAB_", "GIT_", "RUNNER_", "CUSTOM_ENV_", "SAGEMAKER_EXECUTOR_", "AWS_", "HOME=", "TMPDIR=", "PATH="} {
			if strings.HasPrefix(entry, prefix) {
				return true
			}
		}
		return false
	})
}

// runnerConfig is the runner's config.toml.
func runnerConfig(options RunnerOptions, dir string) ([]byte, error) {
	concurrent := max(1, options.Concurrent)
	runner := map[string]any{
		"name":                "local",
		"url":                 options.Coordinator.URL(),
		"id":                  1,
		"token":               options.Coordinator.RunnerToken(),
		"executor":            "shell",
		"shell":               "bash",
		"request_concurrency": concurrent,
	}
	if options.OutputLimit > 0 {
		runner["output_limit"] = options.OutputLimit
	}
	if len(options.Environment) > 0 {
		runner["environment"] = options.Environment
	}
	if custom := options.Custom; custom != nil {
		command, err := filepath.Abs(custom.Command)
		if err != nil {
			return nil, err
		}
		configArgs := []string{"config"}
		if custom.Settings != "" {
			settings, err := filepath.Abs(custom.Settings)
			if err != nil {
				return nil, err
			}
			configArgs = append(configArgs, "--settings", settings)
		}
		grace := custom.GracefulKillTimeout
		setDefault(&grace, time.Minute)
		table := map[string]any{
			"config_exec": command, "config_args": either(custom.ConfigArgs, configArgs),
			"prepare_exec": command, "prepare_args": either(custom.PrepareArgs, []string{"prepare"}),
			"run_exec": command, "run_args": either(custom.RunArgs, []string{"run"}),
			"cleanup_exec": command, "cleanup_args": either(custom.CleanupArgs, []string{"cleanup"}),
			"graceful_kill_timeout": int(grace / time.Second),
		}
		if custom.ForceKillTimeout > 0 {
			table["force_kill_timeout"] = int(custom.ForceKillTimeout / time.Second)
		}
		runner["executor"], runner["custom"] = "custom", table
	} else {
		runner["builds_dir"], runner["cache_dir"] = filepath.Join(dir, "builds"), filepath.Join(dir, "cache")
	}
	global := map[string]any{
		"concurrent":       concurrent,
		"check_interval":   1,
		"shutdown_timeout": int(options.ShutdownTimeout / time.Second),
		"log_format":       "text",
	}
	if options.Config != nil {
		options.Config(global, runner)
	}
	global["runners"] = []map[string]any{runner}
	text, err := toml.Marshal(global)
	if err != nil {
		return nil, fmt.Errorf("write config.toml: %w", err)
	}
	return text, nil
}

func either(first, second []string) []string {
	if first != nil {
		return first
	}
	return second
}

// tail keeps the last of what is written to it.
type tail struct {
	also io.Writer

	mu   sync.Mutex
	text []byte
}

const tailSize = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > 2*tailSize {
		t.text = append(t.text[:0], t.text[len(t.text)-tailSize:]...)
	}
	if t.also != nil {
		return t.also.Write(p)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
