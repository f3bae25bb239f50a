package process1

// NetworkMode chooses the network of a sandbox.
type NetworkMode int

const (
	// NetworkHost shares the network of the machine.
	NetworkHost NetworkMode = iota
	// NetworkNone has a loopback interface and nothing else.
	NetworkNone
)

// Rlimit is a soft and a hard limit as setrlimit(2) takes them.
type Rlimit struct{ Soft, Hard uint64 }

// Mount is one of [Bind], [Tmpfs], [Overlay], [Proc], [Dev], [File],
// [Symlink] and [Directory].
type Mount interface {
	// MountPoint is the path inside, absolute.
	MountPoint() string
}

// Bind shows a directory or file of the machine, with what is mounted below
// it. Set-uid bits and device files have no effect on it.
type Bind struct {
	Source, Target string
	ReadOnly       bool
	// Optional skips the mount when Source does not exist.
	Optional bool
}

// Tmpfs is an empty file system in memory.
type Tmpfs struct {
	Target   string
	Mode     uint32 // permission bits, 01777 for a /tmp; 0 means 0755
	UID, GID int    // owner
	Size     int64  // bytes; 0 is the kernel's default, half of the memory
}

// Overlay stacks directories; what is written to it goes to a throwaway
// directory.
type Overlay struct {
	Target string
	// Lower directories, the topmost first.
	Lower []string
	// Scratch is an existing empty directory on a local file system that
	// takes what is written. Empty means memory. The caller removes it.
	Scratch string
	// ReadOnly needs no Scratch: nothing can be written.
	ReadOnly bool
	// Hide are paths, relative to Target, that are not there.
	Hide []string
}

// Proc is the /proc of the sandbox's own processes. What changes the machine
// in it is read-only or masked.
type Proc struct{ Target string }

// Dev is a minimal /dev: null, zero, full, random, urandom, tty, pts, shm and
// the links to file descriptors.
type Dev struct {
	Target string
	// ShmSize of /dev/shm in bytes; 0 is the kernel's default.
	ShmSize int64
}

// File is a file with the given content.
type File struct {
	Target   string
	Content  []byte
	Mode     uint32 // permission bits; 0 means 0644
	UID, GID int    // owner
}

// Symlink is a symbolic link with the text Link.
type Symlink struct{ Target, Link string }

// Directory is made if it is missing, with this mode and owner.
type Directory struct {
	Target   string
	Mode     uint32 // permission bits; 0 means 0755
	UID, GID int    // owner
}

func (m Bind) MountPoint() string      { return m.Target }
func (m Tmpfs) MountPoint() string     { return m.Target }
func (m Overlay) MountPoint() string   { return m.Target }
func (m Proc) MountPoint() string      { return m.Target }
func (m Dev) MountPoint() string       { return m.Target }
func (m File) MountPoint() string      { return m.Target }
func (m Symlink) MountPoint() string   { return m.Target }
func (m Directory) MountPoint() string { return m.Target }
