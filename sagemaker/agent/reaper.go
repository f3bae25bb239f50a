package agent

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// becomeSubreaper makes orphans of the scripts children of the agent, so that
// none of them escapes its end.
func becomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the reaper of orphaned processes: %w", err)
	}
	return nil
}

// reaper collects orphans that have ended, and leaves the commands it started
// to their own Wait.
type reaper struct {
	mu      sync.Mutex
	own     map[int]bool
	signals chan os.Signal
}

func newReaper() *reaper {
	r := &reaper{own: map[int]bool{}, signals: make(chan os.Signal, 1)}
	signal.Notify(r.signals, unix.SIGCHLD)
	go func() {
		for range r.signals {
			r.reap()
		}
	}()
	return r
}

func (r *reaper) close() {
	signal.Stop(r.signals)
	close(r.signals)
}

func (r *reaper) start(cmd *exec.Cmd) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := cmd.Start()
	if err == nil {
		r.own[cmd.Process.Pid] = true
	}
	return err
}

// ended is called after the Wait of a command: until then it hides orphans from reap.
func (r *reaper) ended(cmd *exec.Cmd) {
	r.mu.Lock()
	delete(r.own, cmd.Process.Pid)
	r.mu.Unlock()
	r.reap()
}

func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
			return
		}
		pid := siginfoPid(&info)
		if pid == 0 || r.own[pid] {
			return
		}
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
}

// siginfoPid is si_pid, which follows three ints, padded to the union's
// alignment of 8 on 64-bit Linux (siginfo(2)).
func siginfoPid(info *unix.Siginfo) int {
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), 16)))
}

// killDescendants kills all processes below this one, until there are none.
func killDescendants() {
	const rounds = 100 // a fork bomb may win
	for range rounds {
		pids := descendants(os.Getpid())
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// descendants finds the living processes below root in /proc.
func descendants(root int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	alive := map[int]bool{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		state, parent, ok := procStat(pid)
		if !ok {
			continue
		}
		children[parent] = append(children[parent], pid)
		alive[pid] = state != 'Z' && state != 'X'
	}
	var found []int
	for queue := children[root]; len(queue) > 0; queue = queue[1:] {
		if alive[queue[0]] {
			found = append(found, queue[0])
		}
		queue = append(queue, children[queue[0]]...)
	}
	return found
}

// procStat reads a process's state and parent (proc_pid_stat(5)). The name
// before them may hold anything, parentheses and blanks included.
func procStat(pid int) (state byte, parent int, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, false
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 2 {
		return 0, 0, false
	}
	parent, err = strconv.Atoi(string(fields[1]))
	return fields[0][0], parent, err == nil
}
