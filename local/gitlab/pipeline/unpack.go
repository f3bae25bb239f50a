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

// refusal is why one entry of an archive is left out; the rest is unpacked.
type refusal string

func (r refusal) Error() string { return "refused: " + string(r) }

// unpack unpacks a zip archive of artifacts into dir. What would lie outside of
// dir is left out; the error then names it. A link is made as it is, wherever it
// points, and last: nothing is written through one.
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
	var refused []error
	budget := int64(maxBytes)
	for _, links := range []bool{false, true} {
		for _, entry := range reader.File {
			if links != (entry.Mode()&fs.ModeSymlink != 0) {
				continue
			}
			err := unpackEntry(root, entry, &budget)
			if err == nil {
				continue
			}
			err = fmt.Errorf("unpack artifacts: %q: %w", entry.Name, err)
			if why := refusal(""); !errors.As(err, &why) {
				return err
			}
			refused = append(refused, err)
		}
	}
	return errors.Join(refused...)
}

func unpackEntry(root *os.Root, entry *zip.File, budget *int64) error {
	name := strings.TrimSuffix(entry.Name, "/")
	if name == "" || name == "." {
		return nil
	}
	if !filepath.IsLocal(name) {
		return refusal("the name leads out of the directory")
	}
	name = path.Clean(name)
	if err := makeDirectory(root, path.Dir(name)); err != nil {
		return err
	}
	switch mode := entry.Mode(); {
	case mode.IsDir():
		return makeDirectory(root, name)
	case mode&fs.ModeSymlink != 0:
		target, err := readEntry(entry, maxLink)
		if err != nil {
			return err
		}
		if info, err := root.Lstat(name); err == nil && info.IsDir() {
			return refusal("the archive has a directory of that name, too")
		}
		_ = root.Remove(name)
		return root.Symlink(string(target), name)
	case mode.IsRegular():
		return unpackFile(root, name, entry, budget)
	default:
		return refusal(fmt.Sprintf("it is no file, directory or link (%s)", mode))
	}
}

// makeDirectory makes a directory and those above it. What is there by that name
// and is no directory, a link of an earlier run for example, makes way.
func makeDirectory(root *os.Root, name string) error {
	if name == "." {
		return nil
	}
	if err := makeDirectory(root, path.Dir(name)); err != nil {
		return err
	}
	switch info, err := root.Lstat(name); {
	case err != nil:
	case info.IsDir():
		return nil
	default:
		if err := root.Remove(name); err != nil {
			return err
		}
	}
	return root.Mkdir(name, 0o755)
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
