// Package container runs one host of a SageMaker job: a process in an image,
// with the mounts, environment and limits that the platform gives it.
//
// The sandbox runtime executes the command for real in Linux namespaces, on a
// throwaway overlay of the machine's own system directories, so that no
// container engine is needed. An image is then the system plus layers (see
// Images).
package container

import (
	"context"
	"fmt"
	"os"
)

// ExecError says that the image's program cannot be executed, in the words of
// a container engine.
type ExecError struct {
	Program string
	Reason  string // e.g. "executable file not found in $PATH"
}

// Error implements error.
func (e *ExecError) Error() string { return fmt.Sprintf("exec: %q: %s", e.Program, e.Reason) }

// Mount is one directory or file of the machine inside the container.
type Mount struct {
	Source   string // path on the machine
	Target   string // absolute path in the container
	ReadOnly bool
}

// Spec describes one container.
type Spec struct {
	Image      string   // reference, as in TrainingImage
	Entrypoint []string // nil: the image's own
	Args       []string // nil: the image's CMD, unless Entrypoint is set
	DefaultArg string   // passed when there is neither Args nor Entrypoint: SageMaker runs "docker run image train"
	Env        []string // NAME=value, over the image's
	Hostname   string
	Hosts      map[string]string // name to address, for /etc/hosts
	Files      map[string][]byte // read-only files of the platform, by absolute path
	Trust      []byte            // PEM of an authority to add to the image's own trust store, where it has one
	Mounts     []Mount
	Scratch    string   // an empty directory that holds everything the container writes outside Mounts; the caller removes it
	Memory     int64    // bytes; 0 for no limit
	Isolated   bool     // no network but loopback
	Output     *os.File // stdout and stderr of the command; the caller keeps ownership
}

// Exit is how a container's first process ended.
type Exit struct {
	Code      int  // 128+N when killed by signal N, as container engines report it
	OOMKilled bool // the kernel killed it at its memory limit
}

// Process is a container that was started.
type Process interface {
	// Signal sends a signal to the container's first process, as "docker kill -s" does.
	Signal(sig os.Signal) error
	// Kill ends every process of the container at once.
	Kill() error
	// Wait waits for the end of the container; nothing of it runs afterwards.
	Wait() (Exit, error)
}

// Runtime starts containers.
type Runtime interface {
	// Start runs the container. The container dies with ctx and with this
	// process. An image that cannot be had is an *ImageError, a program that
	// cannot be executed in it an *ExecError.
	Start(ctx context.Context, spec Spec) (Process, error)
	// Check judges an image reference without running it.
	Check(ctx context.Context, image string) error
}

// ImageError says that an image cannot be had.
type ImageError struct {
	Image  string
	Reason string
}

// Error implements error.
func (e *ImageError) Error() string { return e.Reason }
