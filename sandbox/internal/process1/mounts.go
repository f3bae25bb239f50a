package process1

import (
	"errors"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// builder builds the new root. It works in two steps: all sources are opened
// while paths still mean what they mean outside, then they are put in place.
// Targets are resolved inside the new root alone, since a symbolic link in an
// image may point anywhere.
type builder struct {
	base    string // a tmpfs that holds the new root and what overlays need
	root    int    // the new root
	oneID   bool   // owners cannot be chosen
	opened  map[int]int
	lowers  map[int][]int
	scratch map[int]int
}

// baseDir exists on every system; what is in it is not seen through it while
// the root is built, which is why sources are opened before.
const baseDir = "/tmp"

func buildRoot(cfg *Config) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fail("make mounts private", "/", err)
	}
	b := &builder{base: baseDir, oneID: cfg.OneID, opened: map[int]int{}, lowers: map[int][]int{}, scratch: map[int]int{}}
	for i, m := range cfg.Mounts {
		if err := b.open(i, m); err != nil {
			return err
		}
	}
	if err := unix.Mount("tmpfs", b.base, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fail("mount tmpfs on", b.base, err)
	}
	newRoot := path.Join(b.base, "root")
	if err := unix.Mkdir(newRoot, 0o755); err != nil {
		return fail("make directory", newRoot, err)
	}
	mounts := cfg.Mounts
	if len(mounts) == 0 || mounts[0].MountPoint() != "/" {
		if err := unix.Mount("tmpfs", newRoot, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return fail("mount tmpfs on", newRoot, err)
		}
	}
	if err := b.openRoot(newRoot); err != nil {
		return err
	}
	for i, m := range mounts {
		if err := b.place(i, m); err != nil {
			return err
		}
		if m.MountPoint() == "/" {
			if err := b.openRoot(newRoot); err != nil {
				return err
			}
		}
	}
	if cfg.ReadOnlyRoot {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(unix.AT_FDCWD, newRoot, 0, &attr); err != nil {
			return fail("make read-only", "/", err)
		}
	}
	// pivot_root(2): "." as both arguments stacks the old root on the new.
	if err := unix.Chdir(newRoot); err != nil {
		return fail("enter", "the new root", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fail("pivot_root to", "the new root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fail("unmount", "the old root", err)
	}
	return fail("enter", "/", unix.Chdir("/"))
}

func (b *builder) openRoot(dir string) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	b.root = fd
	return fail("open", "the new root", err)
}

// open opens the sources of mount i.
func (b *builder) open(i int, m Mount) (err error) {
	switch m := m.(type) {
	case Bind:
		b.opened[i], err = cloneTree(m.Source, m.ReadOnly, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
		if m.Optional && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)) {
			b.opened[i], err = -1, nil
		}
		return err
	case Overlay:
		for _, l := range m.Lower {
			fd, err := openDir(l)
			if err != nil {
				return err
			}
			b.lowers[i] = append(b.lowers[i], fd)
		}
		if m.Scratch != "" {
			b.scratch[i], err = openDir(m.Scratch)
		}
		return err
	case Dev:
		return b.openDevices()
	}
	return nil
}

func openDir(name string) (int, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return fd, fail("open directory", name, err)
}

// cloneTree is a detached copy of the mounts at source.
func cloneTree(source string, readOnly bool, attrs uint64) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fail("open", source, err)
	}
	if readOnly {
		attrs |= unix.MOUNT_ATTR_RDONLY
	}
	attr := unix.MountAttr{Attr_set: attrs}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return -1, fail("set mount attributes of", source, err)
	}
	return fd, nil
}

// place puts mount i at its target.
func (b *builder) place(i int, m Mount) error {
	switch m := m.(type) {
	case Bind:
		if b.opened[i] < 0 {
			return nil
		}
		return b.attachLike(b.opened[i], m.Target)
	case Tmpfs:
		mode := m.Mode
		if mode == 0 {
			mode = 0o755
		}
		options := "mode=0" + strconv.FormatUint(uint64(mode), 8)
		if !b.oneID {
			options += ",uid=" + strconv.Itoa(m.UID) + ",gid=" + strconv.Itoa(m.GID)
		}
		if m.Size > 0 {
			options += ",size=" + strconv.FormatInt(m.Size, 10)
		}
		return b.mount("tmpfs", m.Target, unix.MS_NOSUID|unix.MS_NODEV, options)
	case Overlay:
		return b.overlay(i, m)
	case Proc:
		return b.proc(m)
	case Dev:
		return b.dev(m)
	case File:
		return b.file(m)
	case Symlink:
		dir, err := b.dir(path.Dir(m.Target), 0o755)
		if err != nil {
			return err
		}
		defer unix.Close(dir)
		return fail("make link", m.Target, unix.Symlinkat(m.Link, dir, path.Base(m.Target)))
	case Directory:
		mode := m.Mode
		if mode == 0 {
			mode = 0o755
		}
		fd, err := b.dir(m.Target, 0o755)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if !b.oneID {
			if err := unix.Chown(fdPath(fd), m.UID, m.GID); err != nil {
				return fail("change owner of", m.Target, err)
			}
		}
		return fail("change mode of", m.Target, unix.Chmod(fdPath(fd), mode))
	}
	return nil
}

// fdPath names what a descriptor refers to, in the /proc of the old root.
func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// lookup resolves a path inside the new root.
func (b *builder) lookup(name string, flags uint64) (int, error) {
	return unix.Openat2(b.root, name, &unix.OpenHow{Flags: flags | unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
}

// dir opens a directory of the new root and makes what is missing of it.
func (b *builder) dir(name string, mode uint32) (int, error) {
	fd, err := b.lookup(name, unix.O_DIRECTORY)
	if !errors.Is(err, unix.ENOENT) {
		return fd, fail("open directory", name, err)
	}
	parent, err := b.dir(path.Dir(name), 0o755)
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	if err := unix.Mkdirat(parent, path.Base(name), mode); err != nil {
		return -1, fail("make directory", name, err)
	}
	fd, err = b.lookup(name, unix.O_DIRECTORY)
	return fd, fail("open directory", name, err)
}

// regular opens a file of the new root, made empty if it is missing.
func (b *builder) regular(name string) (int, error) {
	fd, err := b.lookup(name, 0)
	if !errors.Is(err, unix.ENOENT) {
		return fd, fail("open", name, err)
	}
	parent, err := b.dir(path.Dir(name), 0o755)
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	made, err := unix.Openat(parent, path.Base(name), unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return -1, fail("make file", name, err)
	}
	unix.Close(made)
	fd, err = b.lookup(name, 0)
	return fd, fail("open", name, err)
}

// attachLike attaches a detached mount on a target of the same type.
func (b *builder) attachLike(tree int, target string) error {
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return fail("stat source of", target, err)
	}
	var at int
	var err error
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		at, err = b.dir(target, 0o755)
	} else {
		at, err = b.regular(target)
	}
	if err != nil {
		return err
	}
	defer unix.Close(at)
	defer unix.Close(tree)
	return fail("mount on", target, unix.MoveMount(tree, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// mount mounts a file system of the given type.
func (b *builder) mount(fstype, target string, flags uintptr, options string) error {
	at, err := b.dir(target, 0o755)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	return fail("mount "+fstype+" on", target, unix.Mount(fstype, fdPath(at), fstype, flags, options))
}

func (b *builder) overlay(i int, m Overlay) error {
	work := path.Join(b.base, strconv.Itoa(i))
	if fd, ok := b.scratch[i]; ok {
		work = fdPath(fd)
	} else if err := unix.Mkdir(work, 0o755); err != nil {
		return fail("make directory", work, err)
	}
	upper := path.Join(work, "upper")
	if err := unix.Mkdir(upper, 0o755); err != nil {
		return fail("make scratch directory for", m.Target, err)
	}
	if err := hide(upper, m.Hide, b.lowers[i]); err != nil {
		return err
	}
	lowers := make([]string, 0, len(m.Lower)+1)
	for _, fd := range b.lowers[i] {
		lowers = append(lowers, fdPath(fd))
	}
	// trusted.* attributes are for the machine's root only.
	options := "userxattr"
	if m.ReadOnly {
		lowers = append([]string{upper}, lowers...)
	} else {
		if err := likeLower(upper, b.lowers[i][0]); err != nil {
			return err
		}
		if err := unix.Mkdir(path.Join(work, "work"), 0o755); err != nil {
			return fail("make scratch directory for", m.Target, err)
		}
		options += ",upperdir=" + upper + ",workdir=" + path.Join(work, "work")
	}
	return b.mount("overlay", m.Target, unix.MS_NOSUID|unix.MS_NODEV, options+",lowerdir="+strings.Join(lowers, ":"))
}

// likeLower gives a directory the mode and, where possible, the owner of the
// directory that it covers.
func likeLower(dir string, lower int) error {
	var st unix.Stat_t
	if err := unix.Fstat(lower, &st); err != nil {
		return fail("stat lower directory of", dir, err)
	}
	// An ordinary user cannot give files away; then they are its own.
	_ = unix.Lchown(dir, int(st.Uid), int(st.Gid))
	return fail("change mode of", dir, unix.Chmod(dir, st.Mode&0o7777))
}

// hide puts whiteouts into the topmost layer.
func hide(layer string, names []string, lowers []int) error {
	for _, name := range names {
		parent := layer
		parts := strings.Split(path.Clean(name), "/")
		rel := ""
		exists := true
		for _, p := range parts[:len(parts)-1] {
			rel = path.Join(rel, p)
			lower := openBelow(lowers, rel)
			if lower < 0 {
				exists = false
				break
			}
			parent = path.Join(parent, p)
			err := unix.Mkdir(parent, 0o755)
			if err == nil {
				err = likeLower(parent, lower)
			} else if errors.Is(err, unix.EEXIST) {
				err = nil
			}
			unix.Close(lower)
			if err != nil {
				return fail("hide", name, err)
			}
		}
		if !exists {
			continue
		}
		err := unix.Mknod(path.Join(parent, parts[len(parts)-1]), unix.S_IFCHR, 0)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fail("hide", name, err)
		}
	}
	return nil
}

// openBelow opens a directory in the topmost layer that has it.
func openBelow(lowers []int, rel string) int {
	for _, l := range lowers {
		fd, err := unix.Openat2(l, rel, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
		})
		if err == nil {
			return fd
		}
	}
	return -1
}

func (b *builder) file(m File) error {
	mode := m.Mode
	if mode == 0 {
		mode = 0o644
	}
	dir, err := b.dir(path.Dir(m.Target), 0o755)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	// What an image has there, a link perhaps, is replaced, not followed.
	if err := unix.Unlinkat(dir, path.Base(m.Target), 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fail("replace", m.Target, err)
	}
	fd, err := unix.Openat(dir, path.Base(m.Target), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return fail("make file", m.Target, err)
	}
	f := os.NewFile(uintptr(fd), m.Target)
	defer f.Close()
	if _, err := f.Write(m.Content); err != nil {
		return fail("write", m.Target, err)
	}
	if !b.oneID {
		return fail("change owner of", m.Target, f.Chown(m.UID, m.GID))
	}
	return nil
}
