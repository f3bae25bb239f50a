package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// ErrRefused means that an archive holds what no honest peer sends.
var ErrRefused = errors.New("refused")

// Options of Unpack.
type Options struct {
	// Targets are where trees are unpacked to, by name; an entry of any other
	// tree is refused.
	Targets map[string]*os.Root
	// MaxBytes and MaxFiles limit what is written; 0 means 1 TiB and 5 million.
	MaxBytes int64
	MaxFiles int
	// UID and GID own what is written; 0 leaves it to the process's own.
	UID, GID int
	// Seen, if set, is told of every entry that was unpacked.
	Seen func(tree, name string)
}

const (
	defaultMaxBytes = 1 << 40
	defaultMaxFiles = 5_000_000
)

// Unpack writes what the archive r holds. A file, link or directory that was
// there and is in the way is removed, never followed. Setuid, setgid and sticky bits
// are dropped. An error that wraps ErrRefused names the entry.
func Unpack(ctx context.Context, r io.Reader, opts Options) (Stats, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(4*windowSize))
	if err != nil {
		return Stats{}, fmt.Errorf("unpack: %w", err)
	}
	defer z.Close()
	plain := &counter{r: z}
	stats, err := unpackTar(ctx, plain, opts)
	if err != nil {
		return stats, err
	}
	// The end of the tar is not the end of the frame, which has the checksum; and
	// no frame at all reads as an empty tar.
	if _, err := io.Copy(io.Discard, plain); err != nil || plain.n == 0 {
		return stats, fmt.Errorf("unpack: the archive ends early: %w", errors.Join(err, io.ErrUnexpectedEOF))
	}
	return stats, nil
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func unpackTar(ctx context.Context, r io.Reader, opts Options) (Stats, error) {
	if opts.MaxBytes == 0 {
		opts.MaxBytes = defaultMaxBytes
	}
	if opts.MaxFiles == 0 {
		opts.MaxFiles = defaultMaxFiles
	}
	u := unpacker{opts: opts, seen: map[string]fs.FileMode{}, buf: make([]byte, blockSize)}
	t := tar.NewReader(r)
	for {
		if ctx.Err() != nil {
			return u.stats, fmt.Errorf("unpack: %w", context.Cause(ctx))
		}
		h, err := t.Next()
		if err == io.EOF {
			return u.stats, u.finish()
		}
		if err != nil {
			return u.stats, fmt.Errorf("unpack: %w", err)
		}
		if err := u.entry(h, t); err != nil {
			return u.stats, fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
}

type unpacker struct {
	opts  Options
	stats Stats
	// seen are the tree/names that are directories for the rest of the archive,
	// not links, and the links that the archive has made.
	seen map[string]fs.FileMode
	dirs []dir // whose mode and time are set at the end
	buf  []byte
}

type dir struct {
	root *os.Root
	name string
	mode fs.FileMode
	time time.Time
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

func (u *unpacker) entry(h *tar.Header, body io.Reader) error {
	if u.stats.Files++; u.stats.Files > u.opts.MaxFiles {
		return refuse("more than %d files", u.opts.MaxFiles)
	}
	if h.Size < 0 || h.Size > u.opts.MaxBytes-u.stats.Bytes {
		return refuse("more than %d bytes", u.opts.MaxBytes)
	}
	u.stats.Bytes += h.Size
	tree, name, _ := strings.Cut(strings.TrimSuffix(h.Name, "/"), "/")
	root, ok := u.opts.Targets[tree]
	if !ok {
		return refuse("it belongs to none of the directories expected")
	}
	if !clean(name) {
		return refuse("its name leaves the project or is not in its simplest form")
	}
	if err := u.parents(tree, root, path.Dir(name)); err != nil {
		return err
	}
	if u.opts.Seen != nil {
		u.opts.Seen(tree, name)
	}
	mode := fs.FileMode(h.Mode) & fs.ModePerm
	switch h.Typeflag {
	case tar.TypeDir:
		if err := u.directory(tree, root, name, 0o700); err != nil {
			return err
		}
		u.dirs = append(u.dirs, dir{root, name, mode, h.ModTime})
		return nil
	case tar.TypeReg:
		return u.file(tree, root, name, mode, h, body)
	case tar.TypeSymlink:
		if h.Linkname == "" || strings.ContainsRune(h.Linkname, 0) {
			return refuse("it is a link to nothing")
		}
		err := u.inPlace(tree, root, name, func() error { return root.Symlink(h.Linkname, name) })
		if err != nil {
			return err
		}
		u.seen[tree+"/"+name] = fs.ModeSymlink
		return u.own(root, name)
	default:
		return refuse("it is neither a file nor a directory nor a link (type %q)", h.Typeflag)
	}
}

// clean says whether name is relative, has no "." or ".." and no empty element.
func clean(name string) bool {
	return name != "" && name != "." && !strings.ContainsRune(name, 0) && path.Clean("/"+name) == "/"+name
}

// parents makes the directories above an entry, and sees that none is a link:
// else an entry could be written to where the link points.
func (u *unpacker) parents(tree string, root *os.Root, name string) error {
	if name == "." || u.seen[tree+"/"+name] == fs.ModeDir {
		return nil
	}
	if err := u.parents(tree, root, path.Dir(name)); err != nil {
		return err
	}
	return u.directory(tree, root, name, 0o777)
}

func (u *unpacker) directory(tree string, root *os.Root, name string, mode fs.FileMode) error {
	if u.seen[tree+"/"+name] == fs.ModeSymlink {
		return refuse("%q is a link of the same archive", tree+"/"+name)
	}
	info, err := root.Lstat(name)
	switch {
	case err == nil && info.IsDir():
		if info.Mode().Perm()&0o700 != 0o700 {
			if err := root.Chmod(name, info.Mode().Perm()|0o700); err != nil {
				return err
			}
		}
	case err == nil || errors.Is(err, fs.ErrNotExist):
		if err == nil {
			if err := root.Remove(name); err != nil {
				return err
			}
		}
		if err := root.Mkdir(name, mode); err != nil {
			return err
		}
		if err := u.own(root, name); err != nil {
			return err
		}
	default:
		return err
	}
	u.seen[tree+"/"+name] = fs.ModeDir
	return nil
}

// inPlace calls create for a file or link, after what is in the way was removed.
func (u *unpacker) inPlace(tree string, root *os.Root, name string, create func() error) error {
	if u.seen[tree+"/"+name] == fs.ModeDir {
		return refuse("it takes the place of a directory of the same archive")
	}
	err := create()
	if !errors.Is(err, fs.ErrExist) {
		return fullDisk(err)
	}
	if err := root.RemoveAll(name); err != nil {
		return err
	}
	return create()
}

func (u *unpacker) file(tree string, root *os.Root, name string, mode fs.FileMode, h *tar.Header, body io.Reader) error {
	var f *os.File
	err := u.inPlace(tree, root, name, func() (err error) {
		f, err = root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	err = writeSparse(f, body, h.Size, u.buf)
	if err == nil && (u.opts.UID != 0 || u.opts.GID != 0) {
		err = f.Chown(u.opts.UID, u.opts.GID)
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fullDisk(err)
	}
	return root.Chtimes(name, h.ModTime, h.ModTime)
}

func (u *unpacker) own(root *os.Root, name string) error {
	if u.opts.UID == 0 && u.opts.GID == 0 {
		return nil
	}
	return root.Lchown(name, u.opts.UID, u.opts.GID)
}

// finish sets what would have been in the way of writing: the modes of
// directories, the innermost first.
func (u *unpacker) finish() error {
	for _, d := range slices.Backward(u.dirs) {
		if err := d.root.Chmod(d.name, d.mode); err != nil {
			return fmt.Errorf("unpack %q: %w", d.name, err)
		}
		if err := d.root.Chtimes(d.name, d.time, d.time); err != nil {
			return fmt.Errorf("unpack %q: %w", d.name, err)
		}
	}
	return nil
}
