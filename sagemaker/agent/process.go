package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// quiet is how long the output of a script that has ended may pause before
	// the rest, from children in the background, is no longer waited for; drain
	// is the limit of it all.
	quiet = 200 * time.Millisecond
	drain = 2 * time.Second

	// scriptOOMScore makes the kernel prefer anything of the script to the agent.
	scriptOOMScore = "500"
)

// ending is how a command ended.
type ending struct {
	exitCode int    // 128+N after signal N
	signal   string // its name, or empty
	maxRSS   int64  // bytes, of the largest process
	err      error  // the command did not start
}

// runCommand runs cmd in a process group of its own and copies its output to
// out. When ctx ends, the group gets SIGTERM and, after grace, every descendant
// of the agent SIGKILL. A child in the background that holds the output does not
// hold runCommand: what it writes later is dropped.
func runCommand(ctx context.Context, reaper *reaper, cmd *exec.Cmd, out io.Writer, grace func() time.Duration) ending {
	r, w, err := os.Pipe()
	if err != nil {
		return ending{err: err}
	}
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	started, exited := make(chan error), make(chan ending, 1)
	go func() {
		// Pdeathsig is about the thread that forks: it must stay as long as the
		// process does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := reaper.start(cmd)
		w.Close()
		started <- err
		if err == nil {
			exited <- wait(reaper, cmd)
		}
	}()
	if err := <-started; err != nil {
		r.Close()
		return ending{err: pathless(err)}
	}
	// Best effort: without it the kernel kills by size, which is the script anyway.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", cmd.Process.Pid), []byte(scriptOOMScore), 0)

	o := output{r: r, done: make(chan struct{})}
	go o.copy(out)
	end := waitOrKill(ctx, cmd.Process.Pid, exited, grace)
	o.settle()
	return end
}

func wait(reaper *reaper, cmd *exec.Cmd) ending {
	err := cmd.Wait()
	reaper.ended(cmd)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return ending{err: err}
	}
	e := ending{exitCode: cmd.ProcessState.ExitCode()}
	if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		e.exitCode, e.signal = 128+int(s.Signal()), unix.SignalName(s.Signal())
	}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		e.maxRSS = u.Maxrss << 10
	}
	return e
}

// waitOrKill waits for the process, and stops its group when ctx ends.
func waitOrKill(ctx context.Context, pid int, exited <-chan ending, grace func() time.Duration) ending {
	select {
	case e := <-exited:
		return e
	case <-ctx.Done():
	}
	_ = unix.Kill(-pid, unix.SIGTERM)
	kill := time.NewTimer(grace())
	defer kill.Stop()
	// Afterwards goes what ignored the signal or left the group.
	defer killDescendants()
	select {
	case e := <-exited:
		return e
	case <-kill.C:
		killDescendants()
		return <-exited
	}
}

// output copies a pipe that may stay open longer than anybody wants to read it.
type output struct {
	r      *os.File
	done   chan struct{}
	exited atomic.Pointer[time.Time]
}

func (o *output) copy(out io.Writer) {
	defer close(o.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := o.r.Read(buf)
		if n > 0 {
			_, _ = out.Write(buf[:n])
		}
		if err != nil {
			return
		}
		if t := o.exited.Load(); t != nil {
			o.wait(*t)
		}
	}
}

// wait lets the next Read wait for as long as a script's last output may take.
func (o *output) wait(exited time.Time) {
	deadline := time.Now().Add(quiet)
	if end := exited.Add(drain); end.Before(deadline) {
		deadline = end
	}
	_ = o.r.SetReadDeadline(deadline)
}

// settle is called when the script has ended: it returns when all output was
// copied. If the pipe is still open then, it is emptied for as long as it is, so
// that a child in the background does not die of it.
func (o *output) settle() {
	now := time.Now()
	o.exited.Store(&now)
	o.wait(now)
	<-o.done
	_ = o.r.SetReadDeadline(time.Time{})
	go func() {
		defer o.r.Close()
		_, _ = io.Copy(io.Discard, o.r)
	}()
}

// pathless is the error less the path, which the message has already.
func pathless(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
