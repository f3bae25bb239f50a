package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sandbox/internal/process1"
	"golang.org/x/sys/unix"
)

// Cmd is a command in a sandbox. It is used like the *exec.Cmd in it: set
// Stdin, Stdout, Stderr and ExtraFiles, then Start and Wait. Path, Args, Env
// and Dir are those of process 1; the command's own are in the Spec.
//
// [Cmd.Signal] reaches the command, Process.Kill ends everything in the sandbox.
// So does the end of the command, of this process, or of the context.
//
// Wait returns an *exec.ExitError with the command's exit code, or 128+S when
// signal S killed it; [Cmd.KilledBy] tells the two apart.
type Cmd struct {
	*exec.Cmd

	spec   Spec
	cause  func() error // of the end of the context
	conn   *os.File     // to process 1
	replys *json.Decoder
	told   atomic.Bool // process 1 has been sent its Config
	group  *cgroup
	ended  process1.Reply
	oom    bool
}

// Command prepares a sandbox for Start. When ctx is done, everything in the
// sandbox is killed.
func Command(ctx context.Context, spec Spec) (*Cmd, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	c := &Cmd{Cmd: exec.CommandContext(ctx, "/proc/self/exe"), spec: spec, cause: func() error { return context.Cause(ctx) }}
	c.Env = []string{} // nothing of ours may be read in /proc/1/environ
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		// A session of its own: a signal to our process group must not
		// reach the command behind our back.
		Setsid:    true,
		Pdeathsig: unix.SIGKILL,
	}
	if spec.Network == NetworkNone {
		c.SysProcAttr.Cloneflags |= unix.CLONE_NEWNET
	}
	return c, setIDs(c.SysProcAttr, &spec)
}

// Start builds the sandbox and starts the command in it. An error that is
// ErrUnsupported names what the kernel refused and how to allow it.
func (c *Cmd) Start() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("sandbox: socketpair: %w", err)
	}
	c.conn = os.NewFile(uintptr(fds[0]), "sandbox")
	child := os.NewFile(uintptr(fds[1]), "sandbox")
	c.replys = json.NewDecoder(c.conn)

	cfg := c.spec.config()
	cfg.OneID = os.Geteuid() != 0
	cfg.ExtraFiles = len(c.ExtraFiles)
	if c.spec.Limits != (Limits{}) {
		if c.group, err = newCgroup(c.spec.Limits); err != nil {
			child.Close()
			c.release()
			return err
		}
	}
	if c.group != nil {
		cfg.CgroupProcs = c.group.procs()
	}

	c.Args = []string{process1.Name, strconv.Itoa(3 + len(c.ExtraFiles))}
	c.ExtraFiles = append(c.ExtraFiles, child)
	err = c.Cmd.Start()
	// Process 1 must be the only one to hold its end: its death is the end of
	// what we read, and of the wait below.
	child.Close()
	if err != nil {
		c.release()
		return startError(err)
	}
	if err := c.handshake(cfg); err != nil {
		_ = c.Process.Kill()
		_ = c.Cmd.Wait()
		c.release()
		if cause := c.cause(); cause != nil {
			return cause
		}
		return err
	}
	return nil
}

func (c *Cmd) handshake(cfg *process1.Config) error {
	b, err := json.Marshal(cfg)
	if err != nil {
		return fmt.Errorf("sandbox: encode: %w", err)
	}
	if _, err := c.conn.Write(b); err != nil {
		return fmt.Errorf("sandbox: process 1 ended early: %w", err)
	}
	c.told.Store(true)
	var r process1.Reply
	if err := c.replys.Decode(&r); err != nil {
		return fmt.Errorf("sandbox: process 1 ended early: %w", err)
	}
	return setupError(r)
}

// Wait waits for the end of the command; nothing of the sandbox is left then.
func (c *Cmd) Wait() error {
	err := c.Cmd.Wait()
	if c.conn != nil && !c.ended.Ended {
		// Without a last word process 1 was killed, and all with it.
		if c.replys.Decode(&c.ended) != nil {
			c.ended = process1.Reply{Ended: true, Status: unix.WaitStatus(unix.SIGKILL)}
		}
	}
	c.release()
	return err
}

func (c *Cmd) release() {
	if c.conn != nil {
		c.conn.Close()
	}
	if c.group != nil {
		c.oom = c.group.oomKilled()
		c.group.remove()
		c.group = nil
	}
}

// Run is Start and Wait.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output is Run, and returns what the command wrote to its standard output.
func (c *Cmd) Output() ([]byte, error) {
	if c.Stdout != nil {
		return nil, errors.New("sandbox: Stdout already set")
	}
	var b bytes.Buffer
	c.Stdout = &b
	err := c.Run()
	return b.Bytes(), err
}

// CombinedOutput is Run, and returns what the command wrote to its standard
// output and error.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	if c.Stdout != nil || c.Stderr != nil {
		return nil, errors.New("sandbox: Stdout or Stderr already set")
	}
	var b bytes.Buffer
	c.Stdout, c.Stderr = &b, &b
	err := c.Run()
	return b.Bytes(), err
}

// Signal sends a signal to the command, or to its process group if the Spec
// says so. Where there is no command yet it ends the sandbox. (Process.Signal
// has no effect: it reaches process 1, which ignores all but SIGKILL.)
func (c *Cmd) Signal(sig os.Signal) error {
	s, ok := sig.(syscall.Signal)
	if !ok {
		return fmt.Errorf("sandbox: %v is not a signal of this system", sig)
	}
	if c.conn == nil {
		return os.ErrProcessDone
	}
	if !c.told.Load() { // it would take a signal for its Config
		return c.Process.Kill()
	}
	if err := json.NewEncoder(c.conn).Encode(process1.Signal{Signal: int(s)}); err != nil {
		return os.ErrProcessDone // nobody listens any more
	}
	return nil
}

// KilledBy is the signal that killed the command, or 0. Call it after Wait.
func (c *Cmd) KilledBy() syscall.Signal {
	if c.ended.Ended && c.ended.Status.Signaled() {
		return c.ended.Status.Signal()
	}
	return 0
}

// OOMKilled says that the kernel killed a process of the sandbox because it
// reached Limits.MemoryBytes. Call it after Wait.
func (c *Cmd) OOMKilled() bool { return c.oom }
