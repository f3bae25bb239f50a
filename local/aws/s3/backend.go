package s3

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/rclone/gofakes3"
)

// backend is the store as gofakes3 wants it.
type backend struct {
	store *store
}

var (
	_ gofakes3.Backend              = backend{}
	_ gofakes3.MultipartBackend     = backend{}
	_ gofakes3.ObjectTaggingBackend = backend{}
)

// failure makes an error of the store one that gofakes3 can answer.
func failure(err error, bucket, key string) error {
	switch {
	case errors.Is(err, errNoSuchBucket):
		return gofakes3.BucketNotFound(bucket)
	case errors.Is(err, errNoSuchKey):
		return gofakes3.ErrorMessage(gofakes3.ErrNoSuchKey, "The specified key does not exist.")
	case errors.Is(err, errNotEmpty):
		return gofakes3.ErrorMessage(gofakes3.ErrBucketNotEmpty, "The bucket you tried to delete is not empty")
	case errors.Is(err, errBucketExists):
		return gofakes3.ResourceError(gofakes3.ErrBucketAlreadyExists, bucket)
	}
	return err
}

func (b backend) ListBuckets(context.Context) ([]gofakes3.BucketInfo, error) {
	var infos []gofakes3.BucketInfo
	for _, bk := range b.store.list() {
		infos = append(infos, gofakes3.BucketInfo{Name: bk.name, CreationDate: gofakes3.NewContentTime(bk.info.Created)})
	}
	return infos, nil
}

func (b backend) ListBucket(_ context.Context, name string, prefix *gofakes3.Prefix, pg gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	bk, err := b.store.bucket(name)
	if err != nil {
		return nil, failure(err, name, "")
	}
	if prefix == nil {
		prefix = &gofakes3.Prefix{}
	}
	limit := int(pg.MaxKeys)
	if limit <= 0 {
		limit = gofakes3.DefaultMaxBucketKeys
	}
	p := bk.listPage(prefix.Prefix, prefix.Delimiter, pg.Marker, limit)
	list := gofakes3.NewObjectList()
	for _, e := range p.entries {
		list.Add(&gofakes3.Content{
			Key:          e.key,
			LastModified: gofakes3.NewContentTime(e.modified),
			ETag:         `"` + e.etag + `"`,
			Size:         e.size,
			StorageClass: gofakes3.StorageStandard,
		})
	}
	for _, common := range p.prefixes {
		list.AddPrefix(common)
	}
	list.IsTruncated, list.NextMarker = p.truncated, p.next
	return list, nil
}

func (b backend) CreateBucket(_ context.Context, name string) error {
	return failure(b.store.create(name, ""), name, "")
}

func (b backend) BucketExists(_ context.Context, name string) (bool, error) {
	_, err := b.store.bucket(name)
	return err == nil, nil
}

func (b backend) DeleteBucket(_ context.Context, name string) error {
	return failure(b.store.remove(name), name, "")
}

// object is an open object as gofakes3 wants it, without contents.
func (b backend) object(ctx context.Context, bucket, key string) (*object, *gofakes3.Object, error) {
	bk, err := b.store.bucket(bucket)
	if err != nil {
		return nil, nil, failure(err, bucket, key)
	}
	o, err := bk.open(key)
	if err != nil {
		return nil, nil, failure(err, bucket, key)
	}
	extra := callOf(ctx).extra
	for name, value := range o.Headers {
		if strings.HasPrefix(name, encryptionHeader) {
			extra.Set(name, value)
		}
	}
	return o, &gofakes3.Object{
		Name:      key,
		Metadata:  o.Headers,
		Size:      o.Size,
		Hash:      hashOf(o.ETag),
		PartSizes: o.Parts,
	}, nil
}

func (b backend) GetObject(ctx context.Context, bucket, key string, rnge *gofakes3.ObjectRangeRequest) (*gofakes3.Object, error) {
	o, out, err := b.object(ctx, bucket, key)
	if err != nil {
		return nil, err
	}
	start, length := int64(0), o.Size
	out.Range, err = rnge.Range(o.Size)
	if err != nil {
		_ = o.file.Close()
		return nil, gofakes3.ErrorMessage(gofakes3.ErrInvalidRange, "The requested range is not satisfiable")
	}
	if out.Range != nil {
		start, length = out.Range.Start, out.Range.Length
	}
	out.Contents, err = o.body(start, length)
	return out, err
}

func (b backend) HeadObject(ctx context.Context, bucket, key string) (*gofakes3.Object, error) {
	o, out, err := b.object(ctx, bucket, key)
	if err != nil {
		return nil, err
	}
	out.Contents = http.NoBody
	return out, o.file.Close()
}

func (b backend) DeleteObject(_ context.Context, bucket, key string) (gofakes3.ObjectDeleteResult, error) {
	bk, err := b.store.bucket(bucket)
	if err != nil {
		return gofakes3.ObjectDeleteResult{}, failure(err, bucket, key)
	}
	return gofakes3.ObjectDeleteResult{}, bk.delete(key)
}

func (b backend) DeleteMulti(_ context.Context, bucket string, keys ...string) (gofakes3.MultiDeleteResult, error) {
	var result gofakes3.MultiDeleteResult
	bk, err := b.store.bucket(bucket)
	if err != nil {
		return result, failure(err, bucket, "")
	}
	for _, key := range keys {
		if err := bk.delete(key); err != nil {
			result.Error = append(result.Error, gofakes3.ErrorResult{Key: key, Code: gofakes3.ErrInternal, Message: err.Error()})
			continue
		}
		result.Deleted = append(result.Deleted, gofakes3.ObjectID{Key: key})
	}
	return result, nil
}

// receive copies a request's data into a draft and returns its size, MD5 and
// checksum header.
func receive(ctx context.Context, d *draft, input io.Reader, size int64) (n int64, sum []byte, name, value string, err error) {
	// gofakes3 hashes already where it hands over a whole object.
	hashed, ok := input.(interface{ Sum([]byte) []byte })
	if !ok {
		h := md5.New()
		input, hashed = io.TeeReader(input, h), h
	}
	type onlyReader struct{ io.Reader }
	if n, err = io.CopyBuffer(struct{ io.Writer }{d}, onlyReader{input}, make([]byte, copyBuffer(size))); err != nil {
		return 0, nil, "", "", err
	}
	if size >= 0 && n != size {
		return 0, nil, "", "", gofakes3.ErrIncompleteBody
	}
	if p := callOf(ctx).payload; p != nil {
		if name, value, err = p.finish(); err != nil {
			return 0, nil, "", "", err
		}
	}
	return n, hashed.Sum(nil), name, value, nil
}

// copyBuffer is small for small objects: thousands a second are usual.
func copyBuffer(size int64) int64 {
	const most = 256 << 10
	if size < 0 || size > most {
		return most
	}
	return max(size, 512)
}

// replaceable checks a request's If-Match and If-None-Match while no other
// write of the key can happen.
func replaceable(ctx context.Context) func(*entry) error {
	if !gofakes3.HasWriteConditions(ctx) {
		return nil
	}
	return func(current *entry) error {
		if current == nil {
			return gofakes3.CheckWriteConditions(ctx, false, "")
		}
		return gofakes3.CheckWriteConditions(ctx, true, hex.EncodeToString(hashOf(current.etag)))
	}
}

func (b backend) PutObject(ctx context.Context, bucket, key string, headers map[string]string, input io.Reader, size int64) (result gofakes3.PutObjectResult, err error) {
	bk, err := b.store.bucket(bucket)
	if err != nil {
		return result, failure(err, bucket, key)
	}
	d, err := bk.draft()
	if err != nil {
		return result, err
	}
	defer d.discard()
	n, sum, name, value, err := receive(ctx, d, input, size)
	if err != nil {
		return result, err
	}
	c := callOf(ctx)
	if name != "" {
		headers[name], headers[checksumHeader+"Type"] = value, "FULL_OBJECT"
		c.extra.Set(name, value)
		c.extra.Set(checksumHeader+"Type", "FULL_OBJECT")
	}
	c.encrypt(headers)
	m := &metadata{Key: key, Size: n, ETag: hex.EncodeToString(sum), Headers: headers}
	b.stamp(m)
	return result, bk.commit(d, m, replaceable(ctx))
}

// stamp sets the time of modification, where gofakes3 looks for it too.
func (b backend) stamp(m *metadata) {
	m.Modified = b.store.now().UTC().Truncate(time.Millisecond)
	m.Headers["Last-Modified"] = m.Modified.Format(http.TimeFormat)
}

func (b backend) CopyObject(ctx context.Context, srcBucket, srcKey, dstBucket, dstKey string, headers map[string]string) (result gofakes3.CopyObjectResult, err error) {
	src, err := b.store.bucket(srcBucket)
	if err != nil {
		return result, failure(err, srcBucket, "")
	}
	dst, err := b.store.bucket(dstBucket)
	if err != nil {
		return result, failure(err, dstBucket, "")
	}
	o, err := src.open(srcKey)
	if err != nil {
		return result, failure(err, srcBucket, srcKey)
	}
	defer func() { _ = o.file.Close() }()
	d, err := dst.draft()
	if err != nil {
		return result, err
	}
	defer d.discard()
	m := &metadata{Key: dstKey, Size: o.Size, ETag: o.ETag, Headers: headers}
	var w io.Writer = d.File
	h := md5.New()
	if len(o.Parts) > 0 { // a copy is one piece: its ETag is the MD5 of all
		w = io.MultiWriter(d.File, h)
	}
	if _, err := io.Copy(w, contextReader{ctx, io.NewSectionReader(o.file, 0, o.Size)}); err != nil {
		return result, err
	}
	if len(o.Parts) > 0 {
		m.ETag = hex.EncodeToString(h.Sum(nil))
	} else {
		for name, value := range o.Headers {
			if strings.HasPrefix(name, checksumHeader) {
				headers[name] = value
			}
		}
	}
	callOf(ctx).encrypt(headers)
	b.stamp(m)
	if err := dst.commit(d, m, replaceable(ctx)); err != nil {
		return result, err
	}
	return gofakes3.CopyObjectResult{ETag: `"` + m.ETag + `"`, LastModified: gofakes3.NewContentTime(m.Modified)}, nil
}

// SetObjectTagging rewrites the object, whose metadata is part of its file.
func (b backend) SetObjectTagging(ctx context.Context, bucket, key, tagging string) error {
	bk, err := b.store.bucket(bucket)
	if err != nil {
		return failure(err, bucket, key)
	}
	o, err := bk.open(key)
	if err != nil {
		return failure(err, bucket, key)
	}
	defer func() { _ = o.file.Close() }()
	d, err := bk.draft()
	if err != nil {
		return err
	}
	defer d.discard()
	if _, err := io.Copy(d.File, contextReader{ctx, io.NewSectionReader(o.file, 0, o.Size)}); err != nil {
		return err
	}
	m := *o.metadata
	m.Headers[gofakes3.TaggingMetadataKey] = tagging
	if tagging == "" {
		delete(m.Headers, gofakes3.TaggingMetadataKey)
	}
	return bk.commit(d, &m, func(current *entry) error {
		if current == nil || current.etag != m.ETag {
			return gofakes3.ErrNoSuchKey
		}
		return nil
	})
}
