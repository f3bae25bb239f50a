package aws

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockName is the file in the data directory that its server holds locked.
const lockName = "server.lock"

// lock makes the data directory this server's own, until the file is closed or
// the process ends.
func lock(data string) (*os.File, error) {
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(data, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		err = fmt.Errorf("another local AWS works in %s: end it, or name another data directory", data)
	case err != nil:
		err = fmt.Errorf("lock the data directory %s: %w", data, err)
	default:
		return f, nil
	}
	return nil, errors.Join(err, f.Close())
}
