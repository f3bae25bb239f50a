package s3

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// An object is one file: its data, then its metadata as JSON, then the length
// of that JSON (four bytes, big endian), then footerMagic. One file means that
// one rename replaces data and metadata together.
const (
	footerMagic = "S3OBJ\x00v1"
	tailLength  = 4 + len(footerMagic)
)

// metadata is what is known about an object besides its data.
type metadata struct {
	Key      string    `json:"key"`
	Size     int64     `json:"size"`
	ETag     string    `json:"etag"` // unquoted; of a multipart upload with its "-N"
	Modified time.Time `json:"modified"`
	// Headers are the object's headers as gofakes3 keeps them: Content-Type,
	// X-Amz-Meta-*, X-Amz-Tagging, X-Amz-Checksum-* and so on.
	Headers map[string]string `json:"headers,omitempty"`
	// Parts are the sizes of the parts of a multipart upload.
	Parts []int64 `json:"parts,omitempty"`
}

var errNotAnObject = errors.New("not an object's file")

// writeFooter appends m to the data that w holds.
func writeFooter(w io.Writer, m *metadata) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(b)))
	_, err = w.Write(append(b, footerMagic...))
	return err
}

// readFooter reads the metadata of an object's file.
func readFooter(f *os.File) (*metadata, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// Most footers are shorter than this: one read finds both tail and JSON.
	size, guess := info.Size(), int64(1024)
	buf := make([]byte, min(size, guess))
	if _, err := f.ReadAt(buf, size-int64(len(buf))); err != nil {
		return nil, err
	}
	if len(buf) < tailLength || string(buf[len(buf)-len(footerMagic):]) != footerMagic {
		return nil, fmt.Errorf("%s: %w", f.Name(), errNotAnObject)
	}
	length := int64(binary.BigEndian.Uint32(buf[len(buf)-tailLength:]))
	if length+int64(tailLength) > size {
		return nil, fmt.Errorf("%s: %w", f.Name(), errNotAnObject)
	}
	if length+int64(tailLength) > int64(len(buf)) {
		buf = make([]byte, length+int64(tailLength))
		if _, err := f.ReadAt(buf, size-int64(len(buf))); err != nil {
			return nil, err
		}
	}
	m := &metadata{}
	if err := json.Unmarshal(buf[int64(len(buf)-tailLength)-length:len(buf)-tailLength], m); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if m.Size != size-length-int64(tailLength) {
		return nil, fmt.Errorf("%s: %w", f.Name(), errNotAnObject)
	}
	return m, nil
}

// object is an open object.
type object struct {
	*metadata
	file *os.File
}

func openObject(path string) (*object, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	m, err := readFooter(f)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &object{metadata: m, file: f}, nil
}

// body returns length bytes of the object's data from start; closing it closes
// the object.
func (o *object) body(start, length int64) (io.ReadCloser, error) {
	if _, err := o.file.Seek(start, io.SeekStart); err != nil {
		_ = o.file.Close()
		return nil, err
	}
	return &body{LimitedReader: io.LimitedReader{R: o.file, N: length}, file: o.file}, nil
}

// body is a stretch of a file.
type body struct {
	io.LimitedReader
	file *os.File
}

// WriteTo hands the file itself to w, which for a TCP connection is sendfile(2).
func (b *body) WriteTo(w io.Writer) (int64, error) {
	type onlyWriter struct{ io.Writer }
	if _, ok := w.(io.ReaderFrom); !ok {
		w = onlyWriter{w}
	}
	return io.Copy(w, &b.LimitedReader)
}

func (b *body) Close() error { return b.file.Close() }
