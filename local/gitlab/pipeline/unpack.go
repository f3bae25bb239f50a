package pipeline

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Limits of what an archive may unpack to.
const (
	maxFiles = 1_000_000
	maxBytes = 256 << 30
	maxLink  = 4096 // bytes of a symbolic link's target
)

// directoryName makes a job's name fit for a directory.
func directoryName(job string) string {
	name := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || strings.ContainsRune(`/\`, r) {
			return '_'
		}
		return r
	}, job)
	if name == "." || name == ".." || name == "" {
		return "_" + name
	}
	return name
}

// unpack unpacks a zip archive of artifacts into dir. What lies outside of dir,
// or would make something lie there, is refused.
func unpack(archive, dir string) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("unpack artifacts: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack artifacts: %w", err)
	}
	defer root.Close()
	reader, err := zip.OpenReader(archive)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return fmt.Errorf("unpack artifacts: %w", err)
	}
	defer reader.Close()
	if len(reader.File) > maxFiles {
		return fmt.Errorf("unpack artifacts: more than %d files", maxFiles)
	}
	budget := int64(maxBytes)
	for _, entry := range reader.File {
		if err := unpackEntry(root, entry, &budget); err != nil {
			return fmt.Errorf("unpack artifacts: %q: %w", entry.Name, err)
		}
	}
	return nil
}

func unpackEntry(root *os.Root, entry *zip.File, budget *int64) error {
	name := strings.TrimSuffix(entry.Name, "/")
	if name == "" || name == "." {
		return nil
	}
	if !filepath.IsLocal(name) {
		return errors.New("refused: the name leads out of the directory")
	}
	if parent := path.Dir(name); parent != "." {
		if err := root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	switch mode := entry.Mode(); {
	case mode.IsDir():
		return root.MkdirAll(name, 0o755)
	case mode&fs.ModeSymlink != 0:
		target, err := readEntry(entry, maxLink)
		if err != nil {
			return err
		}
		if filepath.IsAbs(string(target)) || !filepath.IsLocal(path.Join(path.Dir(name), string(target))) {
			return fmt.Errorf("refused: the link to %q leads out of the directory", target)
		}
		_ = root.Remove(name)
		return root.Symlink(string(target), name)
	case mode.IsRegular():
		return unpackFile(root, name, entry, budget)
	default:
		return fmt.Errorf("refused: it is no file, directory or link (%s)", mode)
	}
}

func unpackFile(root *os.Root, name string, entry *zip.File, budget *int64) error {
	content, err := entry.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	// What is there may be a link of an earlier run: it is not followed.
	_ = root.Remove(name)
	file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, entry.Mode().Perm()|0o600)
	if err != nil {
		return err
	}
	written, err := io.Copy(file, io.LimitReader(content, *budget+1))
	if *budget -= written; *budget < 0 {
		err = errors.Join(err, fmt.Errorf("the archive unpacks to more than %d bytes", int64(maxBytes)))
	}
	return errors.Join(err, file.Close())
}

func readEntry(entry *zip.File, limit int64) ([]byte, error) {
	content, err := entry.Open()
	if err != nil {
		return nil, err
	}
	defer content.Close()
	return io.ReadAll(io.LimitReader(content, limit))
}
