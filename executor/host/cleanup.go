package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
)

// Cleanup removes the job's directories, whatever modes its scripts left, and
// gives its user id back. It can be called again, and without Prepare.
func (h *Host) Cleanup(ctx context.Context) error {
	if err := h.validate(); err != nil {
		return err
	}
	if err := removeAll(h.base); err != nil {
		return fmt.Errorf("remove the job's directories: %w", err)
	}
	if _, err := os.Stat(h.o.WorkDir); os.Geteuid() != 0 || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return h.withUsers(ctx, func(users) error { return nil })
}

// removeAll is os.RemoveAll for trees with directories that their owner cannot
// enter. No script may be running in it.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := openUp(root, "."); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// openUp lets the owner into all directories.
func openUp(root *os.Root, dir string) error {
	if err := root.Chmod(dir, 0o700); err != nil {
		return err
	}
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	f.Close()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := openUp(root, path.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
