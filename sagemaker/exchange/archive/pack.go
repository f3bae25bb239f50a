package archive

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// windowSize bounds the memory of both ends.
const windowSize = 2 << 20

// Tree is a directory to pack.
type Tree struct {
	// Name is the first element of the names in the archive.
	Name string
	Root *os.Root
	// Files yields the names to pack, relative and with slashes; nil packs
	// everything.
	Files iter.Seq[string]
}

// Measure counts what Pack would pack of a whole tree.
func Measure(ctx context.Context, root *os.Root) (Stats, error) {
	var s Stats
	err := walk(ctx, root, ".", func(_ string, info fs.FileInfo, err error) error {
		if err != nil {
			return err
		}
		s.Files++
		if info.Mode().IsRegular() {
			s.Bytes += info.Size()
		}
		return nil
	})
	return s, err
}

// Pack writes an archive of trees to w. What cannot travel (a socket, a
// device, an unreadable file) is left out and told to warn, and so
// is what changes or vanishes meanwhile.
func Pack(ctx context.Context, w io.Writer, warn func(string), trees ...Tree) (Stats, error) {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(windowSize),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return Stats{}, fmt.Errorf("pack: %w", err)
	}
	p := packer{tar: tar.NewWriter(z), warn: warn, buf: make([]byte, blockSize)}
	for _, t := range trees {
		if err := p.tree(ctx, t); err != nil {
			z.Close()
			return p.stats, fmt.Errorf("pack %s: %w", t.Name, err)
		}
	}
	if err := errors.Join(p.tar.Close(), z.Close()); err != nil {
		return p.stats, fmt.Errorf("pack: %w", err)
	}
	return p.stats, nil
}

type packer struct {
	tar   *tar.Writer
	warn  func(string)
	stats Stats
	buf   []byte
}

func (p *packer) tree(ctx context.Context, t Tree) error {
	if t.Files == nil {
		return walk(ctx, t.Root, ".", func(name string, info fs.FileInfo, err error) error {
			if err != nil {
				return err
			}
			return p.add(t, name, info)
		})
	}
	for name := range t.Files {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		info, err := t.Root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			p.warn(fmt.Sprintf("%q is left out: %v", name, cause(err)))
			continue
		}
		if err := p.add(t, name, info); err != nil {
			return err
		}
	}
	return nil
}

// add packs one entry. Only errors of the archive are returned.
func (p *packer) add(t Tree, name string, info fs.FileInfo) error {
	h := tar.Header{
		Format: tar.FormatPAX, Name: path.Join(t.Name, name),
		Mode: int64(info.Mode().Perm()), ModTime: info.ModTime(),
	}
	var body *os.File
	switch info.Mode().Type() {
	case 0:
		f, err := t.Root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			p.warn(fmt.Sprintf("%q is left out: %v", name, cause(err)))
			return nil
		}
		defer f.Close()
		now, err := f.Stat()
		if err != nil || !now.Mode().IsRegular() {
			p.warn(fmt.Sprintf("%q is left out: it changes while it is packed", name))
			return nil
		}
		h.Typeflag, h.Size, body = tar.TypeReg, now.Size(), f
	case fs.ModeDir:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case fs.ModeSymlink:
		target, err := t.Root.Readlink(name)
		if err != nil {
			p.warn(fmt.Sprintf("%q is left out: %v", name, cause(err)))
			return nil
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	default:
		p.warn(fmt.Sprintf("%q is left out: it is neither a file nor a directory nor a link", name))
		return nil
	}
	if err := p.tar.WriteHeader(&h); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	p.stats.Files++
	p.stats.Bytes += h.Size
	if body == nil {
		return nil
	}
	return p.body(name, body, h.Size)
}

// body writes exactly size bytes, as the header says, whatever becomes of the file.
func (p *packer) body(name string, f *os.File, size int64) error {
	n, err := io.CopyBuffer(struct{ io.Writer }{p.tar}, struct{ io.Reader }{io.LimitReader(f, size)}, p.buf)
	if n == size {
		return nil
	}
	var pathErr *fs.PathError // from reading; all others are from writing
	if err != nil && !errors.As(err, &pathErr) {
		return fmt.Errorf("%q: %w", name, err)
	}
	p.warn(fmt.Sprintf("%q got shorter while it was packed: its end is filled with zeros", name))
	if _, err := io.CopyN(p.tar, zeros{}, size-n); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	return nil
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// Walk calls fn for the entry called name and everything below it, a directory
// before its entries, these in the order of their names. Links are not followed,
// and what vanishes meanwhile is passed over. A directory that cannot be read is
// passed to fn a second time, with the error.
func Walk(ctx context.Context, root *os.Root, name string, fn filepath.WalkFunc) error {
	info, err := root.Lstat(name)
	if err != nil {
		return unlessVanished(err)
	}
	if err := fn(name, info, nil); err != nil || !info.IsDir() {
		return err
	}
	return walk(ctx, root, name, fn)
}

// walk is Walk without the directory itself.
func walk(ctx context.Context, root *os.Root, dir string, fn filepath.WalkFunc) error {
	return Entries(ctx, root, dir, func(name string, info fs.FileInfo, err error) error {
		if err := fn(name, info, err); err != nil || info == nil || !info.IsDir() {
			return err
		}
		return walk(ctx, root, name, fn)
	})
}

// Entries calls fn for what a directory holds, in the order of the names, or
// with the directory's own name, no info and an error if it cannot be read.
func Entries(ctx context.Context, root *os.Root, dir string, fn filepath.WalkFunc) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var entries []fs.DirEntry
	d, err := root.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err == nil {
		entries, err = d.ReadDir(-1)
		d.Close()
	}
	if unlessVanished(err) != nil {
		return fn(dir, nil, err)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		info, err := root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := fn(name, info, nil); err != nil {
			return err
		}
	}
	return nil
}

func unlessVanished(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	return err
}

// cause is the error less the path, which the message has already.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
