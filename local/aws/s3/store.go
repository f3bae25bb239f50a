package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/tidwall/btree"
	"golang.org/x/sync/errgroup"
)

// store keeps buckets under a directory:
//
//	<bucket>/bucket.json           the bucket's creation time, region and configuration documents
//	<bucket>/objects/ab/abcd…      an object; the name is the SHA-256 of its key (see object.go)
//	<bucket>/uploads/<id>/         a multipart upload in progress
//	<bucket>/tmp/                  what is being written
//
// Keys are kept sorted in memory for listings; everything else is read from the
// files. A write is a rename, so readers see an object whole, old or new.
type store struct {
	dir string
	now func() time.Time

	mu      sync.RWMutex
	buckets map[string]*bucket
}

// bucket is one bucket. Its configuration is guarded by mu, its keys by the
// tree's own lock.
type bucket struct {
	name string
	dir  string
	keys *btree.BTreeG[entry]

	seed    maphash.Seed
	writing [64]sync.Mutex // by the hash of the key: condition check and rename are one step

	mu   sync.RWMutex
	info bucketInfo
}

// bucketInfo is what bucket.json holds.
type bucketInfo struct {
	Created time.Time `json:"created"`
	Region  string    `json:"region,omitempty"`
	// Documents are the configuration documents by sub-resource ("lifecycle").
	Documents map[string]string `json:"documents,omitempty"`
}

// entry is what a listing says of an object.
type entry struct {
	key      string
	size     int64
	etag     string
	modified time.Time
}

var (
	errNoSuchBucket = fmt.Errorf("no such bucket: %w", fs.ErrNotExist)
	errNoSuchKey    = fmt.Errorf("no such key: %w", fs.ErrNotExist)
	errBucketExists = fmt.Errorf("bucket exists: %w", fs.ErrExist)
	errNotEmpty     = errors.New("bucket is not empty")
)

// openStore loads the buckets under dir, which is made if it is missing.
func openStore(dir string, now func() time.Time) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the local S3: %w", err)
	}
	s := &store{dir: dir, now: now, buckets: map[string]*bucket{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the directory of the local S3: %w", err)
	}
	for _, e := range entries {
		b := newBucket(dir, e.Name())
		raw, err := os.ReadFile(filepath.Join(b.dir, "bucket.json"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read bucket %q: %w", b.name, err)
		}
		if err := json.Unmarshal(raw, &b.info); err != nil {
			return nil, fmt.Errorf("read bucket %q: bucket.json: %w", b.name, err)
		}
		if err := b.load(); err != nil {
			return nil, fmt.Errorf("read bucket %q: %w", b.name, err)
		}
		s.buckets[b.name] = b
	}
	return s, nil
}

func newBucket(dir, name string) *bucket {
	return &bucket{
		name: name,
		dir:  filepath.Join(dir, name),
		keys: btree.NewBTreeG(func(a, b entry) bool { return a.key < b.key }),
		seed: maphash.MakeSeed(),
	}
}

// load drops what a killed process left half-written and fills keys.
func (b *bucket) load() error {
	tmp := filepath.Join(b.dir, "tmp")
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(8)
	err := filepath.WalkDir(filepath.Join(b.dir, "objects"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		g.Go(func() error {
			o, err := openObject(path)
			if err != nil {
				return err
			}
			b.keys.Set(entryOf(o.metadata))
			return o.file.Close()
		})
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, g.Wait())
}

func entryOf(m *metadata) entry {
	return entry{key: m.Key, size: m.Size, etag: m.ETag, modified: m.Modified}
}

func (s *store) bucket(name string) (*bucket, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if b := s.buckets[name]; b != nil {
		return b, nil
	}
	return nil, errNoSuchBucket
}

// list returns the buckets by name.
func (s *store) list() []*bucket {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*bucket, 0, len(s.buckets))
	for _, b := range s.buckets {
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b *bucket) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return all
}

// create makes a bucket, whose name the caller has checked. A bucket of that
// name is errBucketExists.
func (s *store) create(name, region string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buckets[name] != nil {
		return errBucketExists
	}
	b := newBucket(s.dir, name)
	b.info = bucketInfo{Created: s.now().UTC(), Region: region}
	if err := os.MkdirAll(filepath.Join(b.dir, "tmp"), 0o700); err != nil {
		return fmt.Errorf("create bucket %q: %w", name, err)
	}
	if err := b.save(); err != nil {
		return fmt.Errorf("create bucket %q: %w", name, err)
	}
	s.buckets[name] = b
	return nil
}

// remove deletes an empty bucket.
func (s *store) remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[name]
	if b == nil {
		return errNoSuchBucket
	}
	if b.keys.Len() > 0 {
		return errNotEmpty
	}
	delete(s.buckets, name)
	return os.RemoveAll(b.dir)
}

// save writes bucket.json; the caller holds mu or owns the bucket alone.
func (b *bucket) save() error {
	raw, err := json.Marshal(b.info)
	if err != nil {
		return err
	}
	return b.replace("bucket.json", raw)
}

// replace writes a file of the bucket's directory in one step.
func (b *bucket) replace(name string, raw []byte) error {
	f, err := os.CreateTemp(filepath.Join(b.dir, "tmp"), "conf-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if _, err := f.Write(raw); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(b.dir, name))
}

// document returns a configuration document, "" when there is none.
func (b *bucket) document(sub string) string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.info.Documents[sub]
}

// setDocument stores a configuration document; "" removes it.
func (b *bucket) setDocument(sub, doc string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.info.Documents == nil {
		b.info.Documents = map[string]string{}
	}
	b.info.Documents[sub] = doc
	if doc == "" {
		delete(b.info.Documents, sub)
	}
	return b.save()
}

func (b *bucket) path(key string) string {
	sum := sha256.Sum256([]byte(key))
	name := hex.EncodeToString(sum[:])
	return filepath.Join(b.dir, "objects", name[:2], name)
}

func (b *bucket) lock(key string) *sync.Mutex {
	return &b.writing[maphash.String(b.seed, key)%uint64(len(b.writing))]
}

// open opens an object; a missing one is errNoSuchKey.
func (b *bucket) open(key string) (*object, error) {
	o, err := openObject(b.path(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoSuchKey
	}
	return o, err
}

// draft is a file that is being written and becomes an object or a part.
type draft struct {
	*os.File
}

func (b *bucket) draft() (*draft, error) {
	f, err := os.CreateTemp(filepath.Join(b.dir, "tmp"), "draft-*")
	if err != nil {
		return nil, err
	}
	return &draft{File: f}, nil
}

// discard removes a draft that was not committed; afterwards it does nothing.
func (d *draft) discard() {
	_ = d.Close()
	_ = os.Remove(d.Name())
}

// commit makes the draft, which holds the data, the object m.Key. check, when
// not nil, is asked whether the object that is there (nil when there is none)
// may be replaced; no other write of the key happens in between.
func (b *bucket) commit(d *draft, m *metadata, check func(current *entry) error) error {
	if err := writeFooter(d, m); err != nil {
		return err
	}
	if err := d.Close(); err != nil {
		return err
	}
	l := b.lock(m.Key)
	l.Lock()
	defer l.Unlock()
	if check != nil {
		if err := check(b.entry(m.Key)); err != nil {
			return err
		}
	}
	path := b.path(m.Key)
	err := os.Rename(d.Name(), path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = os.Rename(d.Name(), path)
		}
	}
	if err != nil {
		return err
	}
	b.keys.Set(entryOf(m))
	return nil
}

func (b *bucket) entry(key string) *entry {
	if e, ok := b.keys.Get(entry{key: key}); ok {
		return &e
	}
	return nil
}

// delete removes an object; a missing one is no error.
func (b *bucket) delete(key string) error {
	l := b.lock(key)
	l.Lock()
	defer l.Unlock()
	b.keys.Delete(entry{key: key})
	if err := os.Remove(b.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// readers stop copying when the request is gone.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
