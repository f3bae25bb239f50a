package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// blockSize is how much is read at a time, and the smallest hole that is kept.
const blockSize = 64 << 10

var zeroBlock [blockSize]byte

// writeSparse copies size bytes and leaves holes where a block is all zeros.
func writeSparse(f *os.File, r io.Reader, size int64, buf []byte) error {
	var hole bool
	for left := size; left > 0; {
		b := buf[:min(left, int64(len(buf)))]
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		left -= int64(len(b))
		if hole = len(b) == blockSize && bytes.Equal(b, zeroBlock[:]); hole {
			if _, err := f.Seek(blockSize, io.SeekCurrent); err != nil {
				return err
			}
			continue
		}
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
	if hole {
		return f.Truncate(size)
	}
	return nil
}

// fullDisk adds what to do to the error of a full disk.
func fullDisk(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: the disk is full", err)
	}
	return err
}
