package agent

import (
	"bytes"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// oomCounter tells whether the kernel has killed something for want of memory
// since it was made.
type oomCounter struct {
	group, machine int64
}

func newOOMCounter() oomCounter {
	return oomCounter{group: groupOOMKills(), machine: counter("/proc/vmstat", "oom_kill")}
}

// Killed says whether a failure with this exit code is due to it. A kill that
// only the whole machine's counter shows must fit the exit code: it may have
// been somebody else's.
func (c oomCounter) Killed(exitCode int) bool {
	if groupOOMKills() > c.group {
		return true
	}
	return exitCode == 128+int(unix.SIGKILL) && counter("/proc/vmstat", "oom_kill") > c.machine
}

// groupOOMKills is the count of our own control group, of version 1 or 2. In a
// container, the group's own directory is the mounted root.
func groupOOMKills() int64 {
	own, v1 := "/", "/"
	b, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 {
			continue
		}
		switch parts[1] {
		case "":
			own = parts[2]
		case "memory":
			v1 = parts[2]
		}
	}
	var most int64
	for _, file := range []string{
		path.Join("/sys/fs/cgroup", own, "memory.events"), "/sys/fs/cgroup/memory.events",
		path.Join("/sys/fs/cgroup/memory", v1, "memory.oom_control"), "/sys/fs/cgroup/memory/memory.oom_control",
	} {
		most = max(most, counter(file, "oom_kill"))
	}
	return most
}

// counter reads one value of a file of "name value" lines; 0 if there is none.
func counter(file, name string) int64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 2 && string(f[0]) == name {
			v, _ := strconv.ParseInt(string(f[1]), 10, 64)
			return v
		}
	}
	return 0
}
