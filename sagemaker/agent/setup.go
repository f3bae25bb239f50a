package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange/archive"
)

// defaultMinFree is what a script needs beside the project, at the very least.
const defaultMinFree = 64 << 20

// userError is for the user to mend, not for the administrator.
type userError struct{ text string }

func (e *userError) Error() string { return e.text }

// setUp makes the container ready for the first script.
func (a *agent) setUp(ctx context.Context) error {
	var err error
	if a.scratch, err = makeScratch(); err != nil {
		return err
	}
	if a.shell, err = findShell(ctx, shellCandidates(), a.env); err != nil {
		return err
	}
	for _, dir := range []string{a.job.ProjectDir, a.job.TmpDir} {
		if err := probe(dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{filepath.Join(a.opts.MLDir, "model"), filepath.Join(a.opts.MLDir, "output", "data")} {
		if err := probe(dir); err != nil {
			a.console.Printf("sagemaker-executor: %v\n", err)
		}
	}
	if err := a.probeSpace(); err != nil {
		return err
	}
	return a.fetchWorkspace(ctx)
}

// makeScratch makes a directory of the agent's own.
func makeScratch() (string, error) {
	var errs []error
	for _, dir := range []string{os.TempDir(), "/dev/shm", "/opt/ml"} {
		d, err := os.MkdirTemp(dir, "sagemaker-executor-")
		if err == nil {
			return d, nil
		}
		errs = append(errs, err)
	}
	return "", &userError{fmt.Sprintf("no directory for temporary files is writable for the image's USER (uid %d): %v", os.Getuid(), errors.Join(errs...))}
}

// probe makes a directory and tries to write in it.
func probe(dir string) error {
	err := os.MkdirAll(dir, 0o777)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(dir, ".sagemaker-executor-"); err == nil {
			f.Close()
			err = os.Remove(f.Name())
		}
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return &userError{fmt.Sprintf("%s is not writable for the image's USER (uid %d): choose another image or USER", dir, os.Getuid())}
	}
	if err != nil {
		return fmt.Errorf("prepare %s: %w", dir, err)
	}
	return nil
}

// probeSpace checks that the workspace will fit.
func (a *agent) probeSpace() error {
	minFree := a.job.MinFree
	if minFree == 0 {
		minFree = defaultMinFree
	}
	var s unix.Statfs_t
	if err := unix.Statfs(a.job.ProjectDir, &s); err != nil {
		return fmt.Errorf("look for free space in %s: %w", a.job.ProjectDir, err)
	}
	free := int64(s.Bavail) * s.Bsize
	if need := a.job.Workspace.Bytes + minFree; free < need {
		return &userError{fmt.Sprintf("%s has %d MiB of free space and the project needs %d MiB: raise SAGEMAKER_VOLUME_SIZE_GB",
			a.job.ProjectDir, free>>20, need>>20)}
	}
	return nil
}

// fetchWorkspace unpacks the project and its .tmp sibling.
func (a *agent) fetchWorkspace(ctx context.Context) error {
	targets := map[string]*os.Root{}
	for tree, dir := range map[string]string{archive.ProjectTree: a.job.ProjectDir, archive.TmpTree: a.job.TmpDir} {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return fmt.Errorf("open the project: %w", err)
		}
		defer root.Close()
		targets[tree] = root
	}
	var r io.ReadCloser
	err := poll(ctx, 0, func() (bool, error) {
		var err error
		r, err = a.store.Get(ctx, a.keys.Workspace())
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("fetch the project: %w", err)
	}
	defer r.Close()
	if _, err := archive.Unpack(ctx, r, archive.Options{Targets: targets}); err != nil {
		return fmt.Errorf("fetch the project: %w", err)
	}
	return nil
}

// notStarted is what the user is told of a script that could not be started.
func (a *agent) notStarted(err error) string {
	if len(a.job.Entrypoint) == 0 {
		return fmt.Sprintf("the shell %s cannot be started in the image (%v): choose an image with bash", a.shell, err)
	}
	image := "the image"
	if a.job.Image != "" {
		image += " " + a.job.Image
	}
	return fmt.Sprintf("the entrypoint %s cannot be started in %s (%v): mend SAGEMAKER_ENTRYPOINT or image:entrypoint, or choose another image",
		a.job.Entrypoint[0], image, err)
}

// shellProbe prints "ok" in a shell that knows the quoting of the runner's scripts.
const shellProbe = `printf %s $'\157\153'`

// shellCandidates are looked for on the PATH and, if that is odd, where the
// runner's own detection looks.
func shellCandidates() []string {
	return []string{
		"bash", "/usr/local/bin/bash", "/usr/bin/bash", "/bin/bash",
		"zsh", "ksh", "mksh", "ash", "sh", "/usr/bin/sh", "/bin/sh", "/busybox/sh",
	}
}

// findShell finds a shell for the runner's scripts: the first candidate that
// knows $'…'; dash does not.
func findShell(ctx context.Context, candidates, env []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var tried []string
	for _, name := range candidates {
		shell, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		cmd := exec.CommandContext(ctx, shell, "-c", shellProbe)
		cmd.Env = env
		if out, err := cmd.Output(); err == nil && string(out) == "ok" {
			return shell, nil
		}
		if !slices.Contains(tried, shell) {
			tried = append(tried, shell)
		}
	}
	if len(tried) == 0 {
		return "", &userError{"the image has no shell: choose an image with bash"}
	}
	return "", &userError{fmt.Sprintf("the image has no shell that runs GitLab's scripts (%s does not know $'…'): choose an image with bash", strings.Join(tried, ", "))}
}
