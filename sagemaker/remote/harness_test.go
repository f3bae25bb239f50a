package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/agent"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange/exchangetest"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/remote"
)

const (
	agentExchange = "TEST_AGENT_EXCHANGE" // makes this binary an agent
	agentMLDir    = "TEST_AGENT_ML_DIR"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(agentExchange); url != "" {
		os.Exit(agentMain(url))
	}
	os.Exit(m.Run())
}

func agentMain(url string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := agent.Run(ctx, agent.Options{Exchange: url, Region: "us-east-1", MLDir: os.Getenv(agentMLDir)})
	var exit *agent.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.Code
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// world is an exchange with a project on the host and room for containers.
type world struct {
	t      testing.TB
	server *exchangetest.Server
	keys   exchange.Keys
	job    exchange.Job
	// project and tmp are the host's.
	project, tmp string
	notices      *notices
}

type notices struct {
	mu    sync.Mutex
	lines []string
}

func (n *notices) add(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
}

func (n *notices) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.lines, "\n")
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, exchangetest.NewServer(t))
}

func newWorldOn(t testing.TB, server *exchangetest.Server) *world {
	t.Helper()
	w := &world{
		t: t, server: server, notices: &notices{},
		keys:    exchange.Keys{Prefix: exchange.JobPrefix("ci", "abc", 7, "open", 401, 1)},
		project: filepath.Join(t.TempDir(), "demo"), tmp: filepath.Join(t.TempDir(), "demo.tmp"),
	}
	require.NoError(t, os.MkdirAll(w.project, 0o755))
	require.NoError(t, os.MkdirAll(w.tmp, 0o755))
	// The container's paths are its own here, as both run on one machine.
	inside := t.TempDir()
	w.job = exchange.Job{ProjectDir: filepath.Join(inside, "demo"), TmpDir: filepath.Join(inside, "demo.tmp")}
	return w
}

func (w *world) remote(opts remote.Options) *remote.Remote {
	opts.Notice = w.notices.add
	opts.ProjectPath = w.job.ProjectDir
	return remote.New(w.server.Store(), w.keys, opts)
}

// root opens one of the host's directories.
func (w *world) root(dir string) *os.Root {
	w.t.Helper()
	root, err := os.OpenRoot(dir)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { root.Close() })
	return root
}

// published is a Remote whose project was sent, and which beats.
func (w *world) published(opts remote.Options) *remote.Remote {
	r := w.remote(opts)
	require.NoError(w.t, r.Publish(w.t.Context(), w.job, w.root(w.project), w.root(w.tmp)))
	go r.Beat(w.t.Context())
	return r
}

// container is an agent in a process of its own.
type container struct {
	t      testing.TB
	cmd    *exec.Cmd
	mlDir  string
	stdout lockedBuffer
	done   chan struct{}
	err    error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start starts the agent of a host; resource is resourceconfig.json, or empty.
func (w *world) start(resource string, env ...string) *container {
	w.t.Helper()
	c := &container{t: w.t, mlDir: w.t.TempDir(), done: make(chan struct{})}
	if resource != "" {
		config := filepath.Join(c.mlDir, "input", "config")
		require.NoError(w.t, os.MkdirAll(config, 0o755))
		require.NoError(w.t, os.WriteFile(filepath.Join(config, "resourceconfig.json"), []byte(resource), 0o644))
	}
	self, err := os.Executable()
	require.NoError(w.t, err)
	c.cmd = exec.Command(self)
	c.cmd.Env = append([]string{
		agentExchange + "=s3://" + exchangetest.Bucket + "/" + w.keys.Prefix, agentMLDir + "=" + c.mlDir,
		"AWS_ENDPOINT_URL=" + w.server.URL, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test",
		"AWS_EC2_METADATA_DISABLED=true", "PATH=" + os.Getenv("PATH"), "HOME=" + w.t.TempDir(),
		"TMPDIR=" + w.t.TempDir(),
	}, env...)
	c.cmd.Stdout, c.cmd.Stderr = &c.stdout, &c.stdout
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(w.t, c.cmd.Start())
	go func() { c.err = c.cmd.Wait(); close(c.done) }()
	w.t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.done
		if w.t.Failed() {
			w.t.Logf("the container's stdout: %.4000s", c.stdout.String())
		}
	})
	return c
}

// exit waits for the end of the agent and returns its exit code.
func (c *container) exit() int {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(time.Minute):
		require.Fail(c.t, "the agent does not end")
	}
	return c.cmd.ProcessState.ExitCode()
}

func script(s string) remote.Step {
	return remote.Step{Stage: "step_script", Script: strings.NewReader(s)}
}

func (w *world) write(name, content string) {
	w.t.Helper()
	file := filepath.Join(w.project, name)
	require.NoError(w.t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(w.t, os.WriteFile(file, []byte(content), 0o644))
}

func (w *world) read(name string) string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.project, name))
	require.NoError(w.t, err)
	return string(b)
}
