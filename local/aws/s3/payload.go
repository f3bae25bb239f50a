package s3

import (
	"bufio"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/rclone/gofakes3"
)

const (
	checksumHeader = "X-Amz-Checksum-"
	// maxLine bounds a chunk header (with its signature) or a trailer line.
	maxLine = 4096
)

// payload is the body of a PUT of data: it undoes the aws-chunked encoding and
// checks the length and the checksum, whether that came as a header or as a
// trailer. gofakes3 takes trailers without looking at them, does not check the
// parts of multipart uploads, and stops reading before the trailer; so this
// sits in front of it, and the backend asks for finish once it has read the
// data.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html and
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
type payload struct {
	raw     *bufio.Reader // nil: the body is not aws-chunked
	body    io.Reader
	closer  io.Closer
	left    int64 // bytes left in the current chunk
	started bool
	done    bool
	length  int64 // declared; -1 when unknown
	read    int64

	algorithm string // upper case as in x-amz-checksum-algorithm; "" without a checksum
	expected  string // base64; "" until the trailer is read
	hash      hash.Hash
}

func newChecksum(algorithm string) hash.Hash {
	switch algorithm {
	case "CRC32":
		return crc32.NewIEEE()
	case "CRC32C":
		return crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case "CRC64NVME":
		return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5))
	case "SHA1":
		return sha1.New()
	case "SHA256":
		return sha256.New()
	}
	return nil
}

// decodePayload returns the payload of a PUT of data, makes it the request's
// body and takes the headers away that describe the encoding, so that gofakes3
// sees plain data.
func decodePayload(r *http.Request) (*payload, error) {
	p := &payload{body: r.Body, closer: r.Body, length: r.ContentLength}
	if sum := r.Header.Get("X-Amz-Content-Sha256"); strings.HasPrefix(sum, "STREAMING-") {
		length, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		if err != nil || length < 0 {
			return nil, gofakes3.ErrMissingContentLength
		}
		p.raw, p.length = bufio.NewReaderSize(r.Body, 64<<10), length
		r.ContentLength = length
		r.Header.Set("Content-Length", strconv.FormatInt(length, 10))
		r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		r.Header.Del("X-Amz-Decoded-Content-Length")
	}
	for _, name := range append(trailers(r.Header), headerNames(r.Header)...) {
		algorithm, ok := strings.CutPrefix(http.CanonicalHeaderKey(name), checksumHeader)
		if !ok || algorithm == "Type" || algorithm == "Mode" || algorithm == "Algorithm" {
			continue
		}
		if p.hash != nil {
			return nil, gofakes3.ErrorMessage(gofakes3.ErrInvalidRequest, "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
		}
		p.algorithm = strings.ToUpper(algorithm)
		if p.hash = newChecksum(p.algorithm); p.hash == nil {
			return nil, gofakes3.ErrorMessagef(gofakes3.ErrInvalidRequest, "The algorithm type you specified in %s header is invalid.", strings.ToLower(name))
		}
		p.expected = r.Header.Get(name)
		r.Header.Del(name)
		if p.expected != "" {
			if raw, err := base64.StdEncoding.DecodeString(p.expected); err != nil || len(raw) != p.hash.Size() {
				return nil, gofakes3.ErrorMessagef(gofakes3.ErrInvalidRequest, "Value for %s header is invalid.", strings.ToLower(name))
			}
		}
	}
	r.Body = p
	return p, nil
}

func trailers(h http.Header) []string {
	var names []string
	for _, n := range strings.Split(h.Get("X-Amz-Trailer"), ",") {
		if n = strings.TrimSpace(n); n != "" {
			names = append(names, n)
		}
	}
	return names
}

func headerNames(h http.Header) []string {
	names := make([]string, 0, len(h))
	for n := range h {
		names = append(names, n)
	}
	return names
}

func (p *payload) Read(b []byte) (int, error) {
	n, err := p.decode(b)
	p.read += int64(n)
	if p.hash != nil {
		_, _ = p.hash.Write(b[:n])
	}
	return n, err
}

func (p *payload) Close() error { return p.closer.Close() }

func (p *payload) decode(b []byte) (int, error) {
	if p.raw == nil {
		return p.body.Read(b)
	}
	if len(b) == 0 {
		return 0, nil
	}
	for p.left == 0 {
		if p.done {
			return 0, io.EOF
		}
		if err := p.nextChunk(); err != nil {
			return 0, incomplete(err)
		}
	}
	n, err := p.raw.Read(b[:min(int64(len(b)), p.left)])
	p.left -= int64(n)
	return n, incomplete(err)
}

// nextChunk reads up to the next chunk's data, or the trailers after the last.
func (p *payload) nextChunk() error {
	if p.started {
		if line, err := p.line(); err != nil || line != "" {
			return errors.Join(err, gofakes3.ErrIncompleteBody)
		}
	}
	p.started = true
	line, err := p.line()
	if err != nil {
		return err
	}
	size, _, _ := strings.Cut(line, ";")
	if p.left, err = strconv.ParseInt(size, 16, 64); err != nil || p.left < 0 {
		return gofakes3.ErrIncompleteBody
	}
	if p.left > 0 {
		return nil
	}
	p.done = true
	for {
		line, err := p.line()
		if errors.Is(err, io.EOF) || err == nil && line == "" {
			return nil
		}
		if err != nil {
			return err
		}
		name, value, _ := strings.Cut(line, ":")
		if algorithm, ok := strings.CutPrefix(http.CanonicalHeaderKey(name), checksumHeader); ok && strings.EqualFold(algorithm, p.algorithm) {
			p.expected = strings.TrimSpace(value)
		}
	}
}

func (p *payload) line() (string, error) {
	raw, err := p.raw.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	if len(raw) > maxLine {
		return "", gofakes3.ErrIncompleteBody
	}
	return strings.TrimRight(string(raw), "\r\n"), nil
}

func incomplete(err error) error {
	if errors.Is(err, io.EOF) {
		return gofakes3.ErrIncompleteBody
	}
	return err
}

// finish reads what follows the data and checks it. It returns the checksum's
// header name and value, empty when the client sent none.
func (p *payload) finish() (name, value string, err error) {
	if n, err := io.Copy(io.Discard, p); err != nil {
		return "", "", err
	} else if n > 0 || p.length >= 0 && p.read != p.length {
		return "", "", gofakes3.ErrIncompleteBody
	}
	if p.hash == nil {
		return "", "", nil
	}
	value = base64.StdEncoding.EncodeToString(p.hash.Sum(nil))
	if p.expected != "" && p.expected != value {
		return "", "", gofakes3.ErrorMessage(gofakes3.ErrBadDigest, fmt.Sprintf("The %s you specified did not match the calculated checksum.", p.algorithm))
	}
	return http.CanonicalHeaderKey(checksumHeader + p.algorithm), value, nil
}
