package pipeline

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// temporaryPrefix begins the name of a run's temporary directory.
const temporaryPrefix = "sagemaker-executor-pipeline-"

// lockName is a file in a temporary directory that is locked (flock) as long as
// its pipeline lives.
const lockName = "lock"

// temporary makes a run's temporary directory in parent, and removes those that
// killed pipelines left there. The caller closes the lock when it has removed
// the directory.
func temporary(parent string) (dir string, lock *os.File, err error) {
	left, _ := filepath.Glob(filepath.Join(parent, temporaryPrefix+"*"))
	for _, dir := range left {
		removeAbandoned(dir)
	}
	if dir, err = os.MkdirTemp(parent, temporaryPrefix); err != nil {
		return "", nil, err
	}
	if lock, err = lockDirectory(dir); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return dir, lock, nil
}

// lockDirectory makes a directory's lock. It gets its name when it is taken:
// without that name nobody removes the directory.
func lockDirectory(dir string) (*os.File, error) {
	name := filepath.Join(dir, lockName)
	lock, err := os.Create(name + ".new")
	if err != nil {
		return nil, err
	}
	if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		err = os.Rename(lock.Name(), name)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// removeAbandoned removes a temporary directory whose pipeline is gone. Those of
// other users stay: neither can their lock be opened for writing nor may they be
// removed.
func removeAbandoned(dir string) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return
	}
	defer root.Close()
	lock, err := root.OpenFile(lockName, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		_ = os.RemoveAll(dir) // it will be tried again
	}
}
