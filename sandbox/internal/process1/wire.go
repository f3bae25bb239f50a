package process1

import (
	"encoding/json"

	"golang.org/x/sys/unix"
)

// Name is argument 0 of a process that is a sandbox's process 1. Argument 1 is
// the number of the descriptor that connects it to its parent.
const Name = "sandbox-process1"

// Config travels from the parent to process 1 first of all, as JSON.
type Config struct {
	Args, Env     []string
	Dir, Hostname string
	Mounts        Mounts
	ReadOnlyRoot  bool
	UID, GID      int
	Groups        []int
	Network       NetworkMode
	Rlimits       map[int]Rlimit
	Umask         int
	SignalGroup   bool
	// OneID says that the user namespace maps a single id.
	OneID bool
	// CgroupProcs are the cgroup.procs files that process 1 enters.
	CgroupProcs []string
	// ExtraFiles is the number of descriptors from 3 on for the command.
	ExtraFiles int
}

// Signal travels from the parent to process 1, for the command.
type Signal struct{ Signal int }

// Mounts are the mounts of a Config; JSON cannot hold an interface.
type Mounts []Mount

// MarshalJSON names the type of each mount.
func (m Mounts) MarshalJSON() ([]byte, error) {
	wire := make([]wireMount, len(m))
	for i := range m {
		wire[i] = toWire(m[i])
	}
	return json.Marshal(wire)
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (m *Mounts) UnmarshalJSON(b []byte) error {
	var wire []wireMount
	if err := json.Unmarshal(b, &wire); err != nil {
		return err
	}
	for _, w := range wire {
		*m = append(*m, w.mount())
	}
	return nil
}

// wireMount holds exactly one of its members.
type wireMount struct {
	Bind      *Bind      `json:",omitempty"`
	Tmpfs     *Tmpfs     `json:",omitempty"`
	Overlay   *Overlay   `json:",omitempty"`
	Proc      *Proc      `json:",omitempty"`
	Dev       *Dev       `json:",omitempty"`
	File      *File      `json:",omitempty"`
	Symlink   *Symlink   `json:",omitempty"`
	Directory *Directory `json:",omitempty"`
}

func toWire(m Mount) wireMount {
	switch m := m.(type) {
	case Bind:
		return wireMount{Bind: &m}
	case Tmpfs:
		return wireMount{Tmpfs: &m}
	case Overlay:
		return wireMount{Overlay: &m}
	case Proc:
		return wireMount{Proc: &m}
	case Dev:
		return wireMount{Dev: &m}
	case File:
		return wireMount{File: &m}
	case Symlink:
		return wireMount{Symlink: &m}
	case Directory:
		return wireMount{Directory: &m}
	}
	panic("sandbox: unknown kind of mount") // the interface is closed
}

func (w wireMount) mount() Mount {
	switch {
	case w.Bind != nil:
		return *w.Bind
	case w.Tmpfs != nil:
		return *w.Tmpfs
	case w.Overlay != nil:
		return *w.Overlay
	case w.Proc != nil:
		return *w.Proc
	case w.Dev != nil:
		return *w.Dev
	case w.File != nil:
		return *w.File
	case w.Symlink != nil:
		return *w.Symlink
	default:
		return *w.Directory
	}
}

// Reply travels from process 1 to the parent: one when the command has been
// started or could not be, one when it has ended.
type Reply struct {
	Op    string     `json:",omitempty"` // what failed
	Path  string     `json:",omitempty"`
	Errno unix.Errno `json:",omitempty"`
	Text  string     `json:",omitempty"` // of an error that is no errno

	Ended  bool            `json:",omitempty"`
	Status unix.WaitStatus `json:",omitempty"`
}
