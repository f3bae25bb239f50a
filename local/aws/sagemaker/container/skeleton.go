package container

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sandbox"
)

// How deep below a system directory, and below /usr/local, the copy goes: deep
// enough for where package managers put things, and some hundred directories
// instead of tens of thousands.
const (
	skeletonDepth      = 2
	skeletonLocalDepth = 4 // local/lib/python3.11/dist-packages
)

// skeleton makes a copy of the system's directories, without their files, that
// belongs to this user.
//
// In an ordinary user's namespace the system's directories belong to nobody, so
// that not even the container's root may put something into them. With the
// copy as an overlay's layer above the system, the directories are root's, and
// what a script installs or deletes works as in a real image.
func skeleton(dir string) (string, error) {
	done := filepath.Join(dir, "system-directories")
	if isDir(done) {
		return done, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("copy the system's directories: %w", err)
	}
	fresh, err := os.MkdirTemp(dir, "system-directories.*")
	if err != nil {
		return "", fmt.Errorf("copy the system's directories: %w", err)
	}
	defer os.RemoveAll(fresh)
	mounts, err := sandbox.System("/", "", nil)
	if err != nil {
		return "", err
	}
	for _, m := range mounts {
		bind, ok := m.(sandbox.Bind)
		if !ok {
			continue
		}
		if err := copyDirectories(bind.Source, filepath.Join(fresh, bind.Target)); err != nil {
			return "", fmt.Errorf("copy the system's directories: %w", err)
		}
	}
	if err := os.Chmod(fresh, 0o755); err != nil {
		return "", fmt.Errorf("copy the system's directories: %w", err)
	}
	if err := os.Rename(fresh, done); err != nil && !isDir(done) {
		return "", fmt.Errorf("copy the system's directories: %w", err)
	}
	return done, nil
}

func copyDirectories(source, target string) error {
	return filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if d != nil && d.IsDir() {
				return fs.SkipDir // not ours to read, in a container neither
			}
			return err
		}
		if !d.IsDir() {
			return nil
		}
		rel, err := filepath.Rel(source, p)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(target, rel), info.Mode().Perm()|0o700); err != nil {
			return err
		}
		parts := strings.Split(rel, string(filepath.Separator))
		depth := skeletonDepth
		if parts[0] == "local" {
			depth = skeletonLocalDepth
		}
		if len(parts) >= depth {
			return fs.SkipDir
		}
		return nil
	})
}
