package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sandbox"
)

// Where things are inside.
const (
	homeInside   = "/home/job"
	runnerInside = "/opt/gitlab-runner/bin/gitlab-runner"
	userName     = "job"
	pathInside   = "/opt/gitlab-runner/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// spec is the sandbox for one command of the job.
func (h *Host) spec(args []string) (sandbox.Spec, error) {
	uid, gid, err := h.Owner()
	if err != nil {
		return sandbox.Spec{}, err
	}
	runner, err := h.runner()
	if err != nil {
		return sandbox.Spec{}, err
	}
	mounts, err := h.system()
	if err != nil {
		return sandbox.Spec{}, err
	}
	if runner != "" {
		mounts = append(mounts, sandbox.Bind{Source: runner, Target: runnerInside, ReadOnly: true})
	}
	mounts = append(mounts,
		sandbox.Proc{Target: "/proc"},
		sandbox.Dev{Target: "/dev"},
		sandbox.Directory{Target: "/run"},
		sandbox.Bind{Source: filepath.Join(h.base, "tmp"), Target: "/tmp"},
		sandbox.Bind{Source: h.Builds(), Target: h.o.BuildsDir},
		sandbox.Bind{Source: h.cache(), Target: h.o.CacheDir},
		sandbox.Bind{Source: filepath.Join(h.base, "home"), Target: homeInside},
	)
	env := []string{
		"PATH=" + pathInside, "HOME=" + homeInside, "TMPDIR=/tmp",
		"USER=" + userName, "LOGNAME=" + userName, "SHELL=/bin/bash", "LANG=C.UTF-8",
	}
	return sandbox.Spec{
		Args: args, Env: append(env, h.o.Env...), Dir: "/tmp",
		Mounts: mounts, ReadOnlyRoot: true,
		UID: uid, GID: gid,
		SignalGroup: true, // as the runner signals its own shell executor's scripts
	}, nil
}

// notOfRootFS are the directories of a root file system that scripts do not
// see: they have their own, or there is nothing for them.
var notOfRootFS = []string{"dev", "proc", "sys", "run", "tmp", "home", "root", "var", "boot", "mnt", "media", "lost+found"}

// system shows the host's system directories, or all of another root file
// system, read-only, with the job's own files in /etc.
func (h *Host) system() ([]sandbox.Mount, error) {
	root := "/"
	if h.o.RootFS != "" {
		root = h.o.RootFS
	}
	hide := append(sandbox.WellKnownSecrets(), h.o.Hide...)
	mounts, err := sandbox.System(root, "", hide)
	if err != nil {
		return nil, err
	}
	shown := map[string]bool{}
	for i, m := range mounts {
		shown[m.MountPoint()] = true
		if m.MountPoint() != "/etc" {
			continue
		}
		etc, ok := m.(sandbox.Overlay)
		if !ok {
			return nil, errors.New("/etc is a link; it has to be a directory")
		}
		etc.Lower = append([]string{h.etc()}, etc.Lower...)
		mounts[i] = etc
	}
	if h.o.RootFS == "" {
		return append(mounts, sandbox.Symlink{Target: "/var/tmp", Link: "/tmp"}), nil
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("settings [host] rootfs: %w", err)
	}
	for _, e := range entries {
		target := "/" + e.Name()
		if e.IsDir() && !shown[target] && !slices.Contains(notOfRootFS, e.Name()) {
			mounts = append(mounts, sandbox.Bind{Source: filepath.Join(root, e.Name()), Target: target, ReadOnly: true})
		}
	}
	return append(mounts, sandbox.Symlink{Target: "/var/tmp", Link: "/tmp"}), nil
}

// etc holds files that are seen in /etc in front of the system's own.
func (h *Host) etc() string { return filepath.Join(h.base, "etc") }

// writeEtc gives the job's user a name, which ssh and others want, and takes
// along how the runner host resolves names: resolv.conf is often a link to
// where scripts cannot look.
func (h *Host) writeEtc(uid, gid int) error {
	root := "/"
	if h.o.RootFS != "" {
		root = h.o.RootFS
	}
	write := func(name, prefix, source string) error {
		b, err := os.ReadFile(source)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("prepare the sandbox: %w", err)
		}
		if err := os.WriteFile(filepath.Join(h.etc(), name), append([]byte(prefix), b...), 0o644); err != nil {
			return fmt.Errorf("prepare the sandbox: %w", err)
		}
		return nil
	}
	passwd := fmt.Sprintf("%s:x:%d:%d::%s:/bin/bash\n", userName, uid, gid, homeInside)
	group := fmt.Sprintf("%s:x:%d:\n", userName, gid)
	return errors.Join(
		write("passwd", passwd, filepath.Join(root, "etc/passwd")),
		write("group", group, filepath.Join(root, "etc/group")),
		write("resolv.conf", "", "/etc/resolv.conf"),
		write("hosts", "", "/etc/hosts"),
	)
}

// runner is the real path of the gitlab-runner program, without which the
// scripts would leave out cache and artifacts and say no more than a warning.
// It is empty if there is none and none is needed.
func (h *Host) runner() (string, error) {
	name := h.o.Runner
	if name == "" {
		name = findRunner()
	}
	if name == "" && h.o.RunnerUnused {
		return "", nil
	}
	if name == "" {
		return "", errors.New("there is no gitlab-runner on the PATH of the runner's service or beside this program, and scripts need it for cache and artifacts: name it in the settings ([host] runner)")
	}
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return "", fmt.Errorf("the gitlab-runner program (settings [host] runner): %w", err)
	}
	return real, nil
}

// findRunner looks where a gitlab-runner program may be: on the PATH, beside
// this program, or as what started this program.
func findRunner() string {
	if found, err := exec.LookPath(runnerName); err == nil {
		return found
	}
	if self, err := os.Executable(); err == nil {
		if found, err := exec.LookPath(filepath.Join(filepath.Dir(self), runnerName)); err == nil {
			return found
		}
	}
	parent, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", os.Getppid()))
	if err == nil && strings.HasPrefix(filepath.Base(parent), runnerName) {
		return parent
	}
	return ""
}

const runnerName = "gitlab-runner"
