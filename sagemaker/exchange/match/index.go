package match

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	maxIndexEntries = 5_000_000
	maxName         = 1 << 16

	flagExtended = 0x4000   // git's CE_EXTENDED
	modeTree     = 0o040000 // of a sparse index
	fixedEntry   = 40 + 20  // stat data and SHA-1
)

// readIndex returns the names that git's index holds, submodules included
// (gitformat-index(5), versions 2 to 4 with SHA-1).
func readIndex(root *os.Root) (map[string]struct{}, error) {
	f, err := root.OpenFile(".git/index", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		// A repository without an index has nothing tracked.
		if info, gitErr := root.Stat(".git"); gitErr != nil || !info.IsDir() {
			return nil, err
		}
		return map[string]struct{}{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseIndex(f)
}

func parseIndex(f io.Reader) (map[string]struct{}, error) {
	r := bufio.NewReaderSize(f, 64<<10)
	var header struct {
		Signature      [4]byte
		Version, Count uint32
	}
	if err := binary.Read(r, binary.BigEndian, &header); err != nil || string(header.Signature[:]) != "DIRC" {
		return nil, errors.New("git's index is not readable")
	}
	if header.Version < 2 || header.Version > 4 {
		return nil, fmt.Errorf("git's index has version %d: 2 to 4 are known", header.Version)
	}
	if header.Count > maxIndexEntries {
		return nil, fmt.Errorf("git's index has %d entries: more than %d", header.Count, maxIndexEntries)
	}
	names := map[string]struct{}{}
	var name string
	for range header.Count {
		var err error
		if name, err = indexEntry(r, header.Version, name); err != nil {
			return nil, fmt.Errorf("git's index is damaged after %d entries: %w", len(names), err)
		}
		names[name] = struct{}{}
	}
	return names, nil
}

// indexEntry reads one entry; previous is the name of the one before.
func indexEntry(r *bufio.Reader, version uint32, previous string) (string, error) {
	var fixed [fixedEntry + 2]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return "", err
	}
	if binary.BigEndian.Uint32(fixed[24:]) == modeTree {
		return "", errors.New("a sparse index is not supported")
	}
	size := len(fixed)
	if binary.BigEndian.Uint16(fixed[fixedEntry:])&flagExtended != 0 {
		if _, err := r.Discard(2); err != nil {
			return "", err
		}
		size += 2
	}
	keep := 0
	if version == 4 {
		strip, err := offsetVarint(r)
		if err != nil || strip > len(previous) {
			return "", errors.New("bad prefix")
		}
		keep = len(previous) - strip
	}
	var b strings.Builder
	b.WriteString(previous[:keep])
	for {
		c, err := r.ReadByte()
		if err != nil {
			return "", err
		}
		if c == 0 {
			break
		}
		if b.WriteByte(c); b.Len() > maxName {
			return "", errors.New("a name is too long")
		}
	}
	if version < 4 {
		// Entries are padded with 1 to 8 NULs to a multiple of 8 bytes; one is read.
		size += b.Len() + 1
		if _, err := r.Discard((8 - size%8) % 8); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// offsetVarint reads git's variable-width integer, as in OFS_DELTA.
func offsetVarint(r io.ByteReader) (int, error) {
	c, err := r.ReadByte()
	if err != nil {
		return 0, err
	}
	v := int(c & 0x7f)
	for c&0x80 != 0 {
		if c, err = r.ReadByte(); err != nil {
			return 0, err
		}
		if v = (v+1)<<7 | int(c&0x7f); v > maxName {
			return 0, errors.New("number too large")
		}
	}
	return v, nil
}
