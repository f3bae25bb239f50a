package sagemaker

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// checkpoints is a host's checkpoint directory and what of it lies in S3.
type checkpoints struct {
	dir    string
	bucket string
	prefix string // with a slash at its end, or empty
	sent   map[string]fileState
}

// fileState tells whether a file has changed since it was sent.
type fileState struct {
	size     int64
	modified time.Time
}

// downloadCheckpoints brings earlier checkpoints to a host.
func (r *run) downloadCheckpoints(ctx context.Context, h *host) error {
	config := r.req.CheckpointConfig
	if config == nil {
		return nil
	}
	bucket, prefix, err := parseS3URI(config.S3Uri)
	if err != nil {
		return clientError("%v", err)
	}
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	c := &checkpoints{bucket: bucket, prefix: prefix, sent: map[string]fileState{}, dir: filepath.Join(h.dir, "checkpoints")}
	store := r.s.opts.Objects(r.req.RoleArn)
	found, err := store.List(ctx, bucket, prefix)
	if err != nil {
		return downloadError(config.S3Uri, err)
	}
	var sources []source
	for _, o := range found {
		if rel := strings.TrimPrefix(o.Key, prefix); rel != "" {
			sources = append(sources, source{bucket, o.Key, rel})
		}
	}
	if err := download(ctx, store, sources, c.dir); err != nil {
		return err
	}
	// A USER that is not root goes on from what an earlier job left.
	if err := openTree(c.dir); err != nil {
		return err
	}
	c.sent, err = scanFiles(c.dir)
	h.checkpoints = c
	return err
}

// openTree lets any user write to a tree.
func openTree(dir string) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.Chmod(p, 0o777)
		case d.Type().IsRegular():
			return os.Chmod(p, 0o666)
		}
		return nil
	})
}

func scanFiles(dir string) (map[string]fileState, error) {
	files := map[string]fileState{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err != nil {
			return ignoreGone(err)
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		files[filepath.ToSlash(rel)] = fileState{info.Size(), info.ModTime()}
		return nil
	})
	return files, err
}

// ignoreGone forgives what vanishes while it is looked at.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// syncCheckpoints sends what is new or changed, and deletes in S3 what was
// deleted here. What fails is tried again at the next sync.
func (r *run) syncCheckpoints(h *host) {
	ctx := r.s.ctx
	c := h.checkpoints
	store := r.s.opts.Objects(r.req.RoleArn)
	log := r.s.log.WithField("job", r.j.Name)
	now, err := scanFiles(c.dir)
	if err != nil {
		log.WithError(err).Warn("sagemaker: checkpoints not read")
		return
	}
	for name, state := range now {
		if c.sent[name] == state {
			continue
		}
		if err := putFile(ctx, store, c.dir, name, c.bucket, c.prefix+name); err != nil {
			if ignoreGone(err) != nil {
				log.WithError(err).Warn("sagemaker: checkpoint not sent")
			}
			continue
		}
		c.sent[name] = state
	}
	for name := range c.sent {
		if _, ok := now[name]; ok {
			continue
		}
		if err := store.Delete(ctx, c.bucket, c.prefix+name); err != nil {
			log.WithError(err).Warn("sagemaker: checkpoint not deleted")
			continue
		}
		delete(c.sent, name)
	}
}

// putFile sends one regular file of a directory that a container writes to: no
// link leads out of it.
func putFile(ctx context.Context, store Objects, dir, name, bucket, key string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := root.Open(filepath.FromSlash(name))
	if err != nil {
		return err
	}
	defer f.Close()
	return store.Put(ctx, bucket, key, f)
}
