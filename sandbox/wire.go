package sandbox

import "golang.org/x/sys/unix"

// initName is argument 0 of a process that is a sandbox's process 1.
const initName = "sandbox-init"

// config travels from Cmd.Start to process 1.
type config struct {
	Spec
	Mounts []wireMount // hides Spec.Mounts, which is an interface
	// OneID says that the user namespace maps a single id.
	OneID bool
	// CgroupProcs are the cgroup.procs files that process 1 enters.
	CgroupProcs []string
	// ExtraFiles is the number of descriptors from 3 on for the command.
	ExtraFiles int
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

// reply travels from process 1 to the parent: one when the command has been
// started or could not be, one when it has ended.
type reply struct {
	Op    string     `json:",omitempty"` // what failed
	Path  string     `json:",omitempty"`
	Errno unix.Errno `json:",omitempty"`
	Text  string     `json:",omitempty"` // of an error that is no errno

	Ended  bool            `json:",omitempty"`
	Status unix.WaitStatus `json:",omitempty"`
}
