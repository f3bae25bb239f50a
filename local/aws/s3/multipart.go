package s3

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rclone/gofakes3"
)

// minPart is the smallest size of a part that is not the last.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
const minPart = 5 << 20

// upload is what upload.json in an upload's directory holds. Parts lie beside
// it as 00001, 00002…, in the format of objects.
type upload struct {
	Key               string            `json:"key"`
	Initiated         time.Time         `json:"initiated"`
	Headers           map[string]string `json:"headers"`
	ChecksumAlgorithm string            `json:"checksum_algorithm,omitempty"`
	ChecksumType      string            `json:"checksum_type,omitempty"`
}

// resumed is the answer to a call that only tells gofakes3, whose list of
// uploads is in memory, of an upload that a previous process began.
type resumed struct {
	id   gofakes3.UploadID
	etag string
}

func (b *bucket) uploadDir(id gofakes3.UploadID) string {
	return filepath.Join(b.dir, "uploads", string(id))
}

func partName(n int) string { return fmt.Sprintf("%05d", n) }

// upload reads an upload; a missing one is ErrNoSuchUpload. The id comes from
// gofakes3, which knows only those that we gave out.
func (b *bucket) upload(id gofakes3.UploadID) (*upload, error) {
	raw, err := os.ReadFile(filepath.Join(b.uploadDir(id), "upload.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, gofakes3.ErrNoSuchUpload
	}
	if err != nil {
		return nil, err
	}
	u := &upload{}
	return u, json.Unmarshal(raw, u)
}

func (b backend) CreateMultipartUpload(ctx context.Context, bucket, key string, headers map[string]string) (gofakes3.UploadID, error) {
	c := callOf(ctx)
	if c.resume != nil {
		return c.resume.id, nil
	}
	bk, err := b.store.bucket(bucket)
	if err != nil {
		return "", failure(err, bucket, key)
	}
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	id := gofakes3.UploadID(hex.EncodeToString(random))
	c.encrypt(headers)
	raw, err := json.Marshal(upload{
		Key: key, Initiated: b.store.now().UTC(), Headers: headers,
		ChecksumAlgorithm: c.checksumAlgorithm, ChecksumType: c.checksumType,
	})
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(bk.uploadDir(id), 0o700); err != nil {
		return "", err
	}
	if c.checksumAlgorithm != "" {
		c.extra.Set("X-Amz-Checksum-Algorithm", c.checksumAlgorithm)
	}
	if c.checksumType != "" {
		c.extra.Set("X-Amz-Checksum-Type", c.checksumType)
	}
	return id, bk.replace(filepath.Join("uploads", string(id), "upload.json"), raw)
}

func (b backend) UploadPart(ctx context.Context, bucket, key string, id gofakes3.UploadID, number int, size int64, input io.Reader) (string, error) {
	c := callOf(ctx)
	if c.resume != nil {
		return c.resume.etag, nil
	}
	bk, err := b.store.bucket(bucket)
	if err != nil {
		return "", failure(err, bucket, key)
	}
	d, err := bk.draft()
	if err != nil {
		return "", err
	}
	defer d.discard()
	n, sum, name, value, err := receive(ctx, d, input, size)
	if err != nil {
		return "", err
	}
	m := &metadata{Key: key, Size: n, ETag: hex.EncodeToString(sum), Headers: map[string]string{}}
	if name != "" {
		m.Headers[name] = value
		c.extra.Set(name, value)
	}
	b.stamp(m)
	if err := writeFooter(d, m); err != nil {
		return "", err
	}
	if err := d.Close(); err != nil {
		return "", err
	}
	err = os.Rename(d.Name(), filepath.Join(bk.uploadDir(id), partName(number)))
	if errors.Is(err, fs.ErrNotExist) { // aborted or completed meanwhile
		return "", gofakes3.ErrNoSuchUpload
	}
	return `"` + m.ETag + `"`, err
}

func (b backend) AbortMultipartUpload(_ context.Context, bucket, key string, id gofakes3.UploadID) error {
	bk, err := b.store.bucket(bucket)
	if err != nil {
		return failure(err, bucket, key)
	}
	return os.RemoveAll(bk.uploadDir(id))
}

func (b backend) CompleteMultipartUpload(ctx context.Context, bucket, key string, id gofakes3.UploadID, input *gofakes3.CompleteMultipartUploadRequest) (gofakes3.VersionID, string, error) {
	bk, err := b.store.bucket(bucket)
	if err != nil {
		return "", "", failure(err, bucket, key)
	}
	u, err := bk.upload(id)
	if err != nil {
		return "", "", err
	}
	d, err := bk.draft()
	if err != nil {
		return "", "", err
	}
	defer d.discard()
	m := &metadata{Key: key, Headers: u.Headers}
	if err := bk.assemble(ctx, d, m, id, u, input); err != nil {
		return "", "", err
	}
	b.stamp(m)
	if err := bk.commit(d, m, replaceable(ctx)); err != nil {
		return "", "", err
	}
	if err := os.RemoveAll(bk.uploadDir(id)); err != nil {
		return "", "", err
	}
	return "", `"` + m.ETag + `"`, nil
}

// assemble writes the parts that input lists into d and fills m.
func (b *bucket) assemble(ctx context.Context, d *draft, m *metadata, id gofakes3.UploadID, u *upload, input *gofakes3.CompleteMultipartUploadRequest) error {
	c := callOf(ctx)
	if len(input.Parts) == 0 {
		return gofakes3.ErrMalformedXML
	}
	sums := md5.New()
	checksum := newPartsChecksum(u)
	for i, part := range input.Parts {
		if i > 0 && part.PartNumber <= input.Parts[i-1].PartNumber {
			return gofakes3.ErrorMessage(gofakes3.ErrInvalidPartOrder, "The list of parts was not in ascending order. Parts must be ordered by part number.")
		}
	}
	for i, part := range input.Parts {
		o, err := openObject(filepath.Join(b.uploadDir(id), partName(part.PartNumber)))
		if errors.Is(err, fs.ErrNotExist) || err == nil && strings.Trim(part.ETag, `"`) != o.ETag {
			if err == nil {
				_ = o.file.Close()
			}
			return gofakes3.ErrorMessage(gofakes3.ErrInvalidPart, "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.")
		}
		if err != nil {
			return err
		}
		err = func() error {
			defer func() { _ = o.file.Close() }()
			if o.Size < minPart && i < len(input.Parts)-1 {
				c.status = http.StatusBadRequest
				return gofakes3.ErrorMessage("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
			}
			return checksum.copy(ctx, d, o)
		}()
		if err != nil {
			return err
		}
		sums.Write(hashOf(o.ETag))
		m.Size += o.Size
		m.Parts = append(m.Parts, o.Size)
	}
	m.ETag = fmt.Sprintf("%x-%d", sums.Sum(nil), len(input.Parts))
	if name, value, kind := checksum.result(); name != "" {
		if c.checksumValue != "" && strings.TrimSuffix(c.checksumValue, fmt.Sprintf("-%d", len(m.Parts))) != strings.TrimSuffix(value, fmt.Sprintf("-%d", len(m.Parts))) {
			return gofakes3.ErrorMessage(gofakes3.ErrBadDigest, "The checksum you specified did not match the calculated checksum.")
		}
		m.Headers[name], m.Headers[checksumHeader+"Type"] = value, kind
	}
	return nil
}

// partsChecksum computes the checksum of an upload: of the whole object, or of
// its parts' checksums.
type partsChecksum struct {
	algorithm string
	whole     bool
	parts     int
	missing   bool // a part came without this checksum
	hash      interface {
		io.Writer
		Sum([]byte) []byte
	}
}

func newPartsChecksum(u *upload) *partsChecksum {
	p := &partsChecksum{algorithm: u.ChecksumAlgorithm}
	p.whole = u.ChecksumType == "FULL_OBJECT" || p.algorithm == "CRC64NVME"
	if h := newChecksum(p.algorithm); h != nil {
		p.hash = h
	}
	return p
}

func (p *partsChecksum) copy(ctx context.Context, d *draft, o *object) error {
	p.parts++
	data := io.NewSectionReader(o.file, 0, o.Size)
	if p.hash != nil && p.whole {
		_, err := io.Copy(io.MultiWriter(d.File, p.hash), contextReader{ctx, data})
		return err
	}
	if p.hash != nil {
		raw, err := base64.StdEncoding.DecodeString(o.Headers[http.CanonicalHeaderKey(checksumHeader+p.algorithm)])
		p.missing = p.missing || err != nil || len(raw) == 0
		_, _ = p.hash.Write(raw)
	}
	if _, err := o.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := io.Copy(d.File, &io.LimitedReader{R: o.file, N: o.Size}) // copy_file_range(2)
	return err
}

func (p *partsChecksum) result() (name, value, kind string) {
	if p.hash == nil || p.missing {
		return "", "", ""
	}
	name, value = http.CanonicalHeaderKey(checksumHeader+p.algorithm), base64.StdEncoding.EncodeToString(p.hash.Sum(nil))
	if p.whole {
		return name, value, "FULL_OBJECT"
	}
	return name, fmt.Sprintf("%s-%d", value, p.parts), "COMPOSITE"
}
