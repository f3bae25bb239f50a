package sagemaker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

const (
	fullyReplicated = "FullyReplicated"
	shardedByKey    = "ShardedByS3Key"
)

// on says whether the channel is given to a host.
func (c *channel) on(h *host) bool {
	groups := c.DataSource.S3DataSource.InstanceGroupNames
	return len(groups) == 0 || slices.Contains(groups, h.group.InstanceGroupName)
}

// source is an object of a channel and where it goes.
type source struct {
	bucket, key string
	path        string // relative to the channel's directory
}

// downloadChannels copies a host's channels. Files have no exec bits, as S3
// keeps none; those of a FastFile channel lie in a directory that is mounted
// read-only.
func (r *run) downloadChannels(ctx context.Context, h *host) error {
	for i := range r.req.InputDataConfig {
		c := &r.req.InputDataConfig[i]
		if !c.on(h) {
			continue
		}
		dir := h.ml("input/data", c.ChannelName)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if r.req.mode(c) == modeFastFile {
			dir = filepath.Join(h.dir, "fastfile", c.ChannelName)
		}
		if err := r.downloadChannel(ctx, h, c, dir); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) downloadChannel(ctx context.Context, h *host, c *channel, dir string) error {
	store := r.s.opts.Objects(r.req.RoleArn)
	s3 := c.DataSource.S3DataSource
	var sources []source
	var err error
	if s3.S3DataType == dataManifest {
		sources, err = manifestSources(ctx, store, s3.S3Uri)
	} else {
		sources, err = prefixSources(ctx, store, s3.S3Uri)
	}
	if err != nil {
		return err
	}
	if s3.S3DataDistributionType == shardedByKey {
		sources = r.shard(h, c, sources)
	}
	return download(ctx, store, sources, dir)
}

// shard is a host's part of the objects: every n-th.
func (r *run) shard(h *host, c *channel, all []source) []source {
	var sharers []*host
	for _, o := range r.hosts {
		if c.on(o) {
			sharers = append(sharers, o)
		}
	}
	mine := slices.Index(sharers, h)
	var part []source
	for i, s := range all {
		if i%len(sharers) == mine {
			part = append(part, s)
		}
	}
	return part
}

// prefixSources lists what an S3Prefix matches: every key that starts with it.
func prefixSources(ctx context.Context, store Objects, uri string) ([]source, error) {
	bucket, prefix, err := parseS3URI(uri)
	if err != nil {
		return nil, clientError("Data download failed:%v", err)
	}
	found, err := store.List(ctx, bucket, prefix)
	if err != nil {
		return nil, downloadError(uri, err)
	}
	if len(found) == 0 {
		return nil, clientError("Data download failed:NoSuchKey (404): No S3 objects found under S3 URL %q", uri)
	}
	// Paths are relative to the prefix where it is a directory, and to the
	// directory that holds it where it is the start of a name.
	base := prefix
	if !strings.HasSuffix(prefix, "/") {
		base = prefix + "/"
		if slices.ContainsFunc(found, func(o Object) bool { return !strings.HasPrefix(o.Key, base) }) {
			base = prefix[:strings.LastIndex(prefix, "/")+1]
		}
	}
	var sources []source
	for _, o := range found {
		if rel := strings.TrimPrefix(o.Key, base); rel != "" {
			sources = append(sources, source{bucket, o.Key, rel})
		}
	}
	return sources, nil
}

// manifestSources reads a manifest: [{"prefix": "s3://..."}, "path", ...].
func manifestSources(ctx context.Context, store Objects, uri string) ([]source, error) {
	bucket, key, err := parseS3URI(uri)
	if err != nil {
		return nil, clientError("Data download failed:%v", err)
	}
	body, err := store.Open(ctx, bucket, key)
	if err != nil {
		return nil, downloadError(uri, err)
	}
	defer body.Close()
	var entries []any
	if err := json.NewDecoder(body).Decode(&entries); err != nil {
		return nil, clientError("Data download failed:the manifest %s is not valid: %v", uri, err)
	}
	prefix := ""
	var sources []source
	for _, e := range entries {
		switch e := e.(type) {
		case object:
			prefix, _ = e["prefix"].(string)
		case string:
			b, k, err := parseS3URI(prefix + e)
			if err != nil {
				return nil, clientError("Data download failed:the manifest %s names %q: %v", uri, prefix+e, err)
			}
			sources = append(sources, source{b, k, e})
		}
	}
	return sources, nil
}

func downloadError(uri string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return clientError("Data download failed:NoSuchKey (404): %s does not exist", uri)
	case errors.Is(err, fs.ErrPermission):
		return clientError("Data download failed:AccessDenied (403): insufficient permissions to access %s", uri)
	}
	return fmt.Errorf("download %s: %w", uri, err)
}

// download copies objects into dir. Keys are hostile: nothing is written
// outside it.
func download(ctx context.Context, store Objects, sources []source, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, s := range sources {
		rel := path.Clean(s.path)
		if !filepath.IsLocal(rel) {
			return clientError("Data download failed:the key %q of bucket %q is not a path below the channel", s.key, s.bucket)
		}
		if err := downloadOne(ctx, store, s, root, rel); err != nil {
			return err
		}
	}
	return nil
}

func downloadOne(ctx context.Context, store Objects, s source, root *os.Root, rel string) error {
	uri := "s3://" + s.bucket + "/" + s.key
	clash := func(err error) error {
		return clientError("Data download failed:Failed to download data. Cannot download %s, a previously downloaded file/folder clashes with it: %v", uri, err)
	}
	if strings.HasSuffix(s.path, "/") { // an empty object that stands for a directory
		if err := root.MkdirAll(rel, 0o755); err != nil {
			return clash(err)
		}
		return nil
	}
	body, err := store.Open(ctx, s.bucket, s.key)
	if err != nil {
		return downloadError(uri, err)
	}
	defer body.Close()
	if err := root.MkdirAll(path.Dir(rel), 0o755); err != nil {
		return clash(err)
	}
	f, err := root.OpenFile(rel, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return clash(err)
	}
	if _, err := io.Copy(f, body); err != nil {
		f.Close()
		return downloadError(uri, err)
	}
	return f.Close()
}
