package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// user is what a user id is in use for.
type user struct {
	Tenant string   // instance/project/protection
	Jobs   []string // directories of the running jobs
}

// users is the content of work_dir/users.json, by user id.
type users map[int]*user

func (h *Host) tenant() string {
	return h.o.Instance + "/" + strconv.FormatInt(h.o.ProjectID, 10) + "/" + h.o.Protection
}

// claim finds the user id for this job's scripts: that of a running job of the
// same project and protection, or one that no running job has. Trying begins
// at a place that follows from the project, so that the next job mostly finds
// the cache its own already.
func (h *Host) claim(ctx context.Context) (uid int, err error) {
	if h.o.UIDCount < 1 || h.o.UIDBase < 1 {
		return 0, fmt.Errorf("settings [host] uid_base %d and uid_count %d have to be positive", h.o.UIDBase, h.o.UIDCount)
	}
	err = h.withUsers(ctx, func(all users) error {
		hash := fnv.New32a()
		_, _ = hash.Write([]byte(h.tenant()))
		first := int(hash.Sum32() % uint32(h.o.UIDCount))
		free := 0
		for i := range h.o.UIDCount {
			id := h.o.UIDBase + (first+i)%h.o.UIDCount
			u := all[id]
			if u == nil && free == 0 {
				free = id
			}
			if u != nil && u.Tenant == h.tenant() {
				uid = id
				break
			}
		}
		if uid == 0 {
			uid = free
		}
		if uid == 0 {
			return fmt.Errorf("all %d user ids for scripts are in use (settings [host] uid_base, uid_count): raise uid_count to the runner's concurrent", h.o.UIDCount)
		}
		if all[uid] == nil {
			all[uid] = &user{Tenant: h.tenant()}
		}
		for _, j := range all[uid].Jobs {
			if j == h.base {
				return nil
			}
		}
		all[uid].Jobs = append(all[uid].Jobs, h.base)
		return nil
	})
	return uid, err
}

// withUsers changes the file under a lock. Jobs whose directory is gone are
// dropped before: their cleanup may never have come so far.
func (h *Host) withUsers(ctx context.Context, change func(users) error) error {
	lock, err := os.OpenFile(filepath.Join(h.o.WorkDir, "users.lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("user ids for scripts: %w", err)
	}
	defer lock.Close() // and so unlock
	if err := flock(ctx, lock); err != nil {
		return fmt.Errorf("user ids for scripts: %w", err)
	}
	file := filepath.Join(h.o.WorkDir, "users.json")
	all := users{}
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("user ids for scripts: %s: %w", file, err)
	}
	for id, u := range all {
		running := u.Jobs[:0]
		for _, j := range u.Jobs {
			if _, err := os.Stat(j); err == nil {
				running = append(running, j)
			}
		}
		if u.Jobs = running; len(running) == 0 {
			delete(all, id)
		}
	}
	if err := change(all); err != nil {
		return err
	}
	if b, err = json.Marshal(all); err != nil {
		return fmt.Errorf("user ids for scripts: %w", err)
	}
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		return fmt.Errorf("user ids for scripts: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("user ids for scripts: %w", err)
	}
	return nil
}

// flock waits for the lock, which others hold for a moment only.
func flock(ctx context.Context, f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
