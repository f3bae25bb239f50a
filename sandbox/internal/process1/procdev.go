package process1

import (
	"errors"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// What files in /proc say and do about the whole machine goes by the real user
// id, not by capabilities, so the real root must not write there from inside.
// The lists are those of container engines (the OCI runtime's defaults).
var (
	procReadOnly = []string{"bus", "fs", "irq", "sys", "sysrq-trigger"}
	procMasked   = []string{"acpi", "asound", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats"}
)

func (b *builder) proc(m Proc) error {
	at, err := b.dir(m.Target, 0o755)
	if err != nil {
		return err
	}
	err = unix.Mount("proc", fdPath(at), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	unix.Close(at)
	if err != nil {
		return fail(OpProc, m.Target, err)
	}
	for _, name := range procReadOnly {
		if err := b.protect(path.Join(m.Target, name), false); err != nil {
			return err
		}
	}
	for _, name := range procMasked {
		if err := b.protect(path.Join(m.Target, name), true); err != nil {
			return err
		}
	}
	return nil
}

// protect makes a path of the new root read-only, or covers it with an empty
// directory or /dev/null's stand-in.
func (b *builder) protect(name string, mask bool) error {
	at, err := b.lookup(name, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fail("open", name, err)
	}
	defer unix.Close(at)
	source := fdPath(at)
	if mask {
		var st unix.Stat_t
		if err := unix.Fstat(at, &st); err != nil {
			return fail("stat", name, err)
		}
		if source, err = b.empty(st.Mode&unix.S_IFMT == unix.S_IFDIR); err != nil {
			return err
		}
	}
	tree, err := cloneTree(source, true, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return fail("protect", name, unix.MoveMount(tree, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// empty is a path outside the new root of something with nothing in it.
func (b *builder) empty(dir bool) (string, error) {
	if dir {
		name := path.Join(b.base, "empty.d")
		if err := unix.Mkdir(name, 0o555); err != nil && !errors.Is(err, unix.EEXIST) {
			return "", fail("make directory", name, err)
		}
		return name, nil
	}
	name := path.Join(b.base, "empty")
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_RDONLY|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return "", fail("make file", name, err)
	}
	unix.Close(fd)
	return name, nil
}

var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// deviceKey keeps device i apart from the numbers of mounts in builder.opened.
func deviceKey(i int) int { return -1 - i }

// openDevices opens the machine's device files: none can be made in a user
// namespace.
func (b *builder) openDevices() error {
	for i, name := range devices {
		fd, err := cloneTree("/dev/"+name, false, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
		if err != nil {
			return err
		}
		b.opened[deviceKey(i)] = fd
	}
	return nil
}

func (b *builder) dev(m Dev) error {
	if err := b.place(0, Tmpfs{Target: m.Target, Mode: 0o755, Size: 1 << 20}); err != nil {
		return err
	}
	for i, name := range devices {
		if err := b.attachLike(b.opened[deviceKey(i)], path.Join(m.Target, name)); err != nil {
			return err
		}
	}
	for name, link := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
		"ptmx": "pts/ptmx",
	} {
		if err := b.place(0, Symlink{Target: path.Join(m.Target, name), Link: link}); err != nil {
			return err
		}
	}
	if err := b.mount("devpts", path.Join(m.Target, "pts"), unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return err
	}
	options := "mode=01777"
	if m.ShmSize > 0 {
		options += ",size=" + strconv.FormatInt(m.ShmSize, 10)
	}
	return b.mount("tmpfs", path.Join(m.Target, "shm"), unix.MS_NOSUID|unix.MS_NODEV, options)
}
