// Package keeper is the process between this one and a runner, for when nothing
// may stay of the runner. It adopts what the runner and its executors leave
// behind (PR_SET_CHILD_SUBREAPER), and kills it when the runner has ended, or
// when the process that started the keeper is gone, in whatever way.
//
// It is this same program, which a name as argument 0 makes a keeper before main
// begins.
package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Name is argument 0 of a keeper. The command that it starts, an absolute path
// and its arguments, follows. Its standard input is a pipe: when the other end
// is closed, all that the keeper keeps is killed. SIGTERM and SIGQUIT are passed
// on to the command, whose exit code is the keeper's.
const Name = "sagemaker-executor-keeper"

// dying is how long killed processes have to go: only one that the kernel holds
// in a device takes longer.
const dying = 10 * time.Second

func init() {
	if len(os.Args) > 1 && os.Args[0] == Name {
		os.Exit(keep(os.Args[1:]))
	}
}

func keep(args []string) int {
	// The command's death signal comes when the thread that started it ends.
	runtime.LockOSThread()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	pid, err := start(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "start %s: %v\n", args[0], err)
		return 127
	}
	ended, alone := make(chan int, 1), make(chan struct{})
	go func() { ended <- reap(pid) }()
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(alone)
	}()
	for {
		select {
		case s := <-signals:
			if s == unix.SIGTERM || s == unix.SIGQUIT {
				_ = unix.Kill(pid, s.(syscall.Signal))
			}
		case <-alone:
			killAll()
			return 128 + int(unix.SIGKILL)
		case code := <-ended:
			killAll()
			return code
		}
	}
}

func start(args []string) (pid int, err error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	return syscall.ForkExec(args[0], args, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{null.Fd(), 1, 2},
		Sys: &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL},
	})
}

// reap waits for whatever ends, until pid has, and returns its exit code.
func reap(pid int) int {
	for {
		var status unix.WaitStatus
		switch p, err := unix.Wait4(-1, &status, 0, nil); {
		case p == pid && status.Signaled():
			return 128 + int(status.Signal())
		case p == pid && status.Exited():
			return status.ExitStatus()
		case err != nil && !errors.Is(err, unix.EINTR):
			return 128 + int(unix.SIGKILL) // killAll reaped it
		}
	}
}

// killAll kills all descendants and returns when there are none any more. What
// lost its parent is a child of ours: without children there are no descendants.
func killAll() {
	for end := time.Now().Add(dying); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, pid := range descendants() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if errors.Is(err, unix.ECHILD) {
				return
			}
			if pid <= 0 && !errors.Is(err, unix.EINTR) {
				break
			}
		}
	}
}

// descendants lists the processes below this one.
func descendants() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// proc(5): pid (comm) state ppid ...; comm may hold anything.
		stat, _ := os.ReadFile("/proc/" + entry.Name() + "/stat")
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 2 {
			continue // it has gone meanwhile
		}
		if parent, err := strconv.Atoi(string(fields[1])); err == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	below := children[os.Getpid()]
	for i := 0; i < len(below); i++ {
		below = append(below, children[below[i]]...)
	}
	return below
}
