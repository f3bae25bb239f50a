package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroup is one control group, or with version 1 of the interface one in each
// controller's hierarchy.
type cgroup struct{ dirs map[string]string } // by controller

// cgroupPrefix is followed by our process id, so that groups of a process that
// was killed can be told from living ones.
const cgroupPrefix = "sagemaker-executor-"

// LimitsAvailable tells whether [Spec].Limits can be enforced here; the error
// is an [ErrUnsupported].
func LimitsAvailable() error {
	g, err := newCgroup(Limits{MemoryBytes: 1 << 30, Pids: 100})
	if err != nil {
		return err
	}
	g.remove()
	return nil
}

func newCgroup(l Limits) (*cgroup, error) {
	g := &cgroup{dirs: map[string]string{}}
	if err := g.make(l); err != nil {
		g.remove()
		return nil, &UnsupportedError{
			What: "a limit of memory or processes is",
			Hint: "make a control group with the memory and pids controllers writable (systemd: Delegate=memory pids)",
			Err:  err,
		}
	}
	return g, nil
}

func (g *cgroup) make(l Limits) error {
	var controllers []string
	if l.MemoryBytes > 0 {
		controllers = append(controllers, "memory")
	}
	if l.Pids > 0 {
		controllers = append(controllers, "pids")
	}
	parents, v2, err := cgroupParents(controllers)
	if err != nil {
		return err
	}
	for _, c := range controllers {
		if v2 && len(g.dirs) > 0 {
			g.dirs[c] = g.dirs[controllers[0]]
			continue
		}
		sweep(parents[c])
		dir, err := os.MkdirTemp(parents[c], cgroupPrefix+strconv.Itoa(os.Getpid())+"-")
		if err != nil {
			return err
		}
		g.dirs[c] = dir
	}
	if l.MemoryBytes > 0 {
		limit := strconv.FormatInt(l.MemoryBytes, 10)
		if v2 {
			err = errors.Join(g.write("memory", "memory.max", limit), g.optional("memory", "memory.swap.max", "0"))
		} else {
			err = errors.Join(g.write("memory", "memory.limit_in_bytes", limit), g.optional("memory", "memory.memsw.limit_in_bytes", limit))
		}
	}
	if l.Pids > 0 {
		err = errors.Join(err, g.write("pids", "pids.max", strconv.FormatInt(l.Pids, 10)))
	}
	return err
}

func (g *cgroup) write(controller, file, value string) error {
	return os.WriteFile(filepath.Join(g.dirs[controller], file), []byte(value), 0)
}

// optional writes to a file that kernels without swap accounting lack.
func (g *cgroup) optional(controller, file, value string) error {
	if err := g.write(controller, file, value); !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
		return err
	}
	return nil
}

func (g *cgroup) procs() []string {
	var files []string
	for _, d := range g.dirs {
		files = append(files, filepath.Join(d, "cgroup.procs"))
	}
	slices.Sort(files)
	return slices.Compact(files)
}

func (g *cgroup) oomKilled() bool {
	for _, file := range []string{"memory.events", "memory.oom_control"} {
		b, err := os.ReadFile(filepath.Join(g.dirs["memory"], file))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
				return strings.TrimSpace(n) != "0"
			}
		}
	}
	return false
}

// remove removes the groups; their last processes may still be on their way
// out.
func (g *cgroup) remove() {
	for _, d := range g.dirs {
		for range 50 {
			if err := unix.Rmdir(d); !errors.Is(err, unix.EBUSY) {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// sweep removes what processes left here that were killed.
func sweep(parent string) {
	left, err := filepath.Glob(filepath.Join(parent, cgroupPrefix+"*"))
	if err != nil {
		return
	}
	for _, d := range left {
		id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(d), cgroupPrefix), "-")
		if pid, err := strconv.Atoi(id); err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			_ = unix.Rmdir(d) // not empty: somebody else's
		}
	}
}

// cgroupParents finds, by controller, the directory in which this process may
// make groups. The formats are those of proc_pid_cgroup(5) and
// proc_pid_mountinfo(5).
func cgroupParents(controllers []string) (parents map[string]string, v2 bool, err error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, false, err
	}
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, false, err
	}
	parents = map[string]string{}
	unified, unifiedMount := "", ""
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		if f[1] == "" {
			unified = f[2]
		}
		for c := range strings.SplitSeq(f[1], ",") {
			if slices.Contains(controllers, c) {
				if at := cgroupMount(string(mountinfo), "cgroup", c); at != "" {
					parents[c] = existing(at, f[2])
				}
			}
		}
	}
	if len(parents) == len(controllers) {
		return parents, false, nil
	}
	unifiedMount = cgroupMount(string(mountinfo), "cgroup2", "")
	if unifiedMount == "" {
		return nil, false, fmt.Errorf("no control group file system has %s", strings.Join(controllers, " and "))
	}
	// The group that a process is in cannot hand controllers down: look for
	// the nearest one above that does.
	for dir := existing(unifiedMount, unified); ; dir = filepath.Dir(dir) {
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
		given := strings.Fields(string(b))
		has := func(c string) bool { return slices.Contains(given, c) }
		if err == nil && !slices.ContainsFunc(controllers, func(c string) bool { return !has(c) }) &&
			unix.Access(dir, unix.W_OK) == nil {
			for _, c := range controllers {
				parents[c] = dir
			}
			return parents, true, nil
		}
		if dir == unifiedMount || dir == "/" {
			return nil, true, fmt.Errorf("no writable control group at or above %s hands down %s", unified, strings.Join(controllers, " and "))
		}
	}
}

func cgroupMount(mountinfo, fstype, controller string) string {
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		if !ok {
			continue
		}
		f, super := strings.Fields(before), strings.Fields(after)
		if len(f) < 5 || len(super) < 3 || super[0] != fstype {
			continue
		}
		if controller == "" || slices.Contains(strings.Split(super[2], ","), controller) {
			return f[4]
		}
	}
	return ""
}

// existing is where group lies below a mount; in a container that shows only a
// part of the hierarchy, the mount itself.
func existing(mount, group string) string {
	dir := filepath.Join(mount, group)
	if _, err := os.Stat(dir); err != nil {
		return mount
	}
	return dir
}
