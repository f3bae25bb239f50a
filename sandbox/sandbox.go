// Package sandbox runs a command in Linux namespaces of its own: it sees a
// root file system that is built from nothing, mount by mount, and no process,
// environment or capability of the machine around it.
//
// It needs no helper program and no root. The package starts its own binary a
// second time as the sandbox's process number 1, which mounts the new root,
// starts the command, forwards signals to it and reaps what it leaves behind.
//
// As root the user namespace maps every id to itself, so files keep their
// owners, while capabilities count inside the sandbox only. An ordinary user
// gets one id: Spec.UID inside is the user outside, and files of others belong
// to nobody.
//
// It needs Linux 5.12 or newer (mount_setattr(2), overlayfs in user
// namespaces). Where owners can be given (UID and GID of a [Tmpfs], [File] or
// [Directory]) an ordinary user's one id takes their place.
package sandbox

import (
	"fmt"
	"path"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sandbox/internal/process1"
)

// Spec describes a sandbox and the command that runs in it.
type Spec struct {
	// Args is the command and its arguments. A name without a slash is looked
	// up on the PATH of Env, inside the sandbox.
	Args []string
	// Env is the command's whole environment.
	Env []string
	// Dir is the working directory inside; empty means "/".
	Dir string
	// Hostname inside; empty means "sandbox".
	Hostname string

	// Mounts build the root file system, in this order. Directories and empty
	// files to mount on are made as needed. A mount on "/" has to be the
	// first; without one the root is an empty tmpfs.
	Mounts []Mount
	// ReadOnlyRoot makes the root mount itself read-only when all is mounted.
	ReadOnlyRoot bool

	// UID, GID and Groups are the command's ids inside. An ordinary user can
	// have only one id inside: Groups are ignored then.
	UID, GID int
	Groups   []int

	// Network chooses the network that the command sees.
	Network NetworkMode
	// Rlimits are set for the command, keyed by RLIMIT_* number.
	Rlimits map[int]Rlimit
	// Limits are enforced by a control group around the whole sandbox.
	Limits Limits
	// Umask of the command; nil means 022.
	Umask *int
	// SignalGroup sends signals to the command's process group instead of the
	// command alone: a shell acts on a signal only when the program that it
	// waits for has ended.
	SignalGroup bool
}

// NetworkMode chooses the network of a sandbox.
type NetworkMode = process1.NetworkMode

const (
	// NetworkHost shares the network of the machine.
	NetworkHost = process1.NetworkHost
	// NetworkNone has a loopback interface and nothing else.
	NetworkNone = process1.NetworkNone
)

// Rlimit is a soft and a hard limit as setrlimit(2) takes them.
type Rlimit = process1.Rlimit

// Limits of everything in the sandbox together. They need a writable control
// group; see [LimitsAvailable].
type Limits struct {
	MemoryBytes int64 // 0: no limit
	Pids        int64 // 0: no limit
}

// The mounts of a root file system.
type (
	// Mount is one of the following.
	Mount = process1.Mount
	// Bind shows a directory or file of the machine.
	Bind = process1.Bind
	// Tmpfs is an empty file system in memory.
	Tmpfs = process1.Tmpfs
	// Overlay stacks directories under a throwaway one.
	Overlay = process1.Overlay
	// Proc is the /proc of the sandbox's own processes.
	Proc = process1.Proc
	// Dev is a minimal /dev.
	Dev = process1.Dev
	// File is a file with the given content.
	File = process1.File
	// Symlink is a symbolic link.
	Symlink = process1.Symlink
	// Directory is made if it is missing.
	Directory = process1.Directory
)

func (s *Spec) validate() error {
	if len(s.Args) == 0 || s.Args[0] == "" {
		return fmt.Errorf("sandbox: no command given")
	}
	if s.UID < 0 || s.GID < 0 {
		return fmt.Errorf("sandbox: user %d:%d is not valid", s.UID, s.GID)
	}
	for i, m := range s.Mounts {
		t := m.MountPoint()
		if !path.IsAbs(t) || path.Clean(t) != t {
			return fmt.Errorf("sandbox: mount target %q is not a clean absolute path", t)
		}
		if t != "/" {
			continue
		}
		if i != 0 {
			return fmt.Errorf("sandbox: the mount on / has to be the first")
		}
		switch m.(type) {
		case Bind, Tmpfs, Overlay:
		default:
			return fmt.Errorf("sandbox: %T cannot be the root", m)
		}
	}
	return nil
}

// config is the Spec with its defaults, for process 1.
func (s *Spec) config() *process1.Config {
	c := &process1.Config{
		Args: s.Args, Env: s.Env, Dir: s.Dir, Hostname: s.Hostname,
		Mounts: s.Mounts, ReadOnlyRoot: s.ReadOnlyRoot,
		UID: s.UID, GID: s.GID, Groups: s.Groups,
		Network: s.Network, Rlimits: s.Rlimits, Umask: 0o022, SignalGroup: s.SignalGroup,
	}
	if c.Dir == "" {
		c.Dir = "/"
	}
	if c.Hostname == "" {
		c.Hostname = "sandbox"
	}
	if s.Umask != nil {
		c.Umask = *s.Umask
	}
	return c
}
