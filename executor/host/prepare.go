package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sandbox"
)

// Prepare makes the job's directories and tries out what its scripts will
// need: namespaces, bash, git and gitlab-runner. It can be called again. Its
// errors are for the administrator of the runner.
func (h *Host) Prepare(ctx context.Context) error {
	if err := h.validate(); err != nil {
		return err
	}
	for _, dir := range []string{h.base, h.Builds(), h.etc(), filepath.Join(h.base, "home"), h.cache()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the job's directories (settings work_dir): %w", err)
		}
	}
	uid, gid := os.Geteuid(), os.Getegid()
	if uid == 0 {
		var err error
		if uid, err = h.claim(ctx); err != nil {
			return err
		}
		gid = uid
	}
	if err := h.makeTmp(); err != nil {
		return err
	}
	if err := h.writeEtc(uid, gid); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		// builds last: its owner is the job's user from then on.
		for _, dir := range []string{h.cache(), filepath.Join(h.base, "home"), h.Builds()} {
			if err := chown(dir, uid, gid); err != nil {
				return err
			}
		}
	}
	return h.probe(ctx)
}

func (h *Host) validate() error {
	for _, s := range []string{h.o.Instance, h.o.Protection} {
		if s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\x00") {
			return fmt.Errorf("instance %q and protection %q have to be names of directories", h.o.Instance, h.o.Protection)
		}
	}
	if !filepath.IsAbs(h.o.WorkDir) {
		return fmt.Errorf("work_dir %q has to be an absolute path", h.o.WorkDir)
	}
	return nil
}

// makeTmp makes the job's /tmp, with the places where its other directories
// are mounted. They stay ours, so scripts cannot put links there.
func (h *Host) makeTmp() error {
	tmp := filepath.Join(h.base, "tmp")
	for _, dir := range []string{tmp, h.inTmp(h.o.BuildsDir), h.inTmp(h.o.CacheDir)} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the job's directories: %w", err)
		}
	}
	if err := os.Chmod(tmp, 0o777|fs.ModeSticky); err != nil {
		return fmt.Errorf("make the job's directories: %w", err)
	}
	return nil
}

// inTmp is the real path of a directory inside /tmp, or "".
func (h *Host) inTmp(inside string) string {
	rel, ok := strings.CutPrefix(inside, "/tmp/")
	if !ok {
		return ""
	}
	return filepath.Join(h.base, "tmp", rel)
}

// Owner is the user and group that scripts run as. Files that others put into
// the builds directory have to be theirs.
func (h *Host) Owner() (uid, gid int, err error) {
	st, err := os.Stat(h.Builds())
	if err != nil {
		return 0, 0, fmt.Errorf("the job's directories are gone: %w", err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, errors.New("no owner known of the builds directory")
	}
	if os.Geteuid() == 0 && sys.Uid == 0 {
		return 0, 0, fmt.Errorf("%s belongs to root: prepare has not finished", h.Builds())
	}
	return int(sys.Uid), int(sys.Gid), nil
}

// Own gives everything in the builds directory to the scripts' user. It is
// called after the executor put files there, while no script is running.
func (h *Host) Own() error {
	uid, gid, err := h.Owner()
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	return chownAll(h.Builds(), uid, gid)
}

// chown gives dir and, if it was somebody else's, all in it away.
func chown(dir string, uid, gid int) error {
	st, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("prepare the sandbox: %w", err)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) == uid && int(sys.Gid) == gid {
		return nil
	}
	return chownAll(dir, uid, gid)
}

// chownAll never follows a link. The top comes last, so that what was
// interrupted is done again.
func chownAll(dir string, uid, gid int) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("change owners: %w", err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		return root.Lchown(name, uid, gid)
	})
	if err == nil {
		err = os.Lchown(dir, uid, gid)
	}
	if err != nil {
		return fmt.Errorf("change owners: %w", err)
	}
	return nil
}

// probe starts what scripts need, in the sandbox.
func (h *Host) probe(ctx context.Context) error {
	where := "the runner host"
	if h.o.RootFS != "" {
		where = h.o.RootFS
	}
	const script = `command -v git >/dev/null || exit 3; gitlab-runner --version >/dev/null || exit 4`
	var out bytes.Buffer
	code, err := h.run(ctx, []string{"bash", "-c", script}, nil, io.Discard, &out)
	switch {
	case errors.Is(err, sandbox.ErrExecute):
		return fmt.Errorf("bash is missing on %s, and the runner's scripts need it: install it (%w)", where, err)
	case err != nil:
		return fmt.Errorf("the sandbox for the runner's scripts cannot be started: %w", err)
	case code == 3:
		return fmt.Errorf("git is missing on %s, and the runner's scripts need it: install it", where)
	case code == 4:
		return fmt.Errorf("gitlab-runner cannot be executed on %s (%s), and scripts need it for cache and artifacts: name one that can in the settings ([host] runner)",
			where, strings.TrimSpace(out.String()))
	case code != 0:
		return fmt.Errorf("the sandbox for the runner's scripts does not work: bash ended with exit code %d (%s)", code, strings.TrimSpace(out.String()))
	}
	return nil
}
