package logs

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// A stream is one file of records. A record is its length (four bytes, big
// endian), JSON, and the length again, so that a long log can be read from
// either end without holding it. The first record is the header.
const frame = 8

// Event is one event of a log.
type Event struct {
	Time    time.Time // millisecond resolution
	Message string
}

// record is an event as it lies in the file.
type record struct {
	Timestamp int64  `json:"t"` // milliseconds since 1970
	Ingestion int64  `json:"i"`
	Message   string `json:"m"`

	offset int64 // where the record begins
	end    int64 // where the next one begins
}

type streamHeader struct {
	Name    string `json:"name"`
	Created int64  `json:"created"`
}

// stream is an open log stream. Records are only ever appended.
type stream struct {
	streamHeader
	path  string
	begin int64 // offset of the first event

	mu                                sync.Mutex
	end                               int64 // offset after the last event
	first, last, lastIngestion, bytes int64 // 0 without events
}

var errCorrupt = errors.New("corrupt log stream")

func encodeRecord(buf []byte, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(b)))
	buf = append(buf, b...)
	return binary.BigEndian.AppendUint32(buf, uint32(len(b))), nil
}

func createStream(path, name string, now int64) (*stream, error) {
	s := &stream{streamHeader: streamHeader{Name: name, Created: now}, path: path}
	b, err := encodeRecord(nil, s.streamHeader)
	if err != nil {
		return nil, err
	}
	s.begin, s.end = int64(len(b)), int64(len(b))
	return s, os.WriteFile(path, b, 0o600)
}

// openStream reads what is known of a stream's file, and cuts off a record that
// a killed process left incomplete.
func openStream(path string) (*stream, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	s := &stream{path: path}
	r := bufio.NewReaderSize(f, 64<<10)
	n, err := readRecord(r, &s.streamHeader)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.begin, s.end = n, n
	for {
		var rec record
		n, err := readRecord(r, &rec)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return s, nil
			}
			return s, f.Truncate(s.end)
		}
		s.note(rec, n)
	}
}

// note counts an appended record of n bytes; the caller holds mu or owns s.
func (s *stream) note(r record, n int64) {
	if s.first == 0 || r.Timestamp < s.first {
		s.first = r.Timestamp
	}
	s.last = max(s.last, r.Timestamp)
	s.lastIngestion = r.Ingestion
	s.bytes += int64(len(r.Message))
	s.end += n
}

// readRecord reads one record and returns its length in the file. io.EOF means
// that there is none; an incomplete one is errCorrupt.
func readRecord(r io.Reader, into any) (int64, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		return 0, errCorrupt
	}
	b := make([]byte, int64(binary.BigEndian.Uint32(length[:]))+4)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, errCorrupt
	}
	if err := json.Unmarshal(b[:len(b)-4], into); err != nil {
		return 0, errors.Join(errCorrupt, err)
	}
	return int64(len(b)) + 4, nil
}

// append adds events in one write.
func (s *stream) append(events []Event, now int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var buf []byte
	recs := make([]record, len(events))
	for i, e := range events {
		before := len(buf)
		recs[i] = record{Timestamp: e.Time.UnixMilli(), Ingestion: now, Message: e.Message}
		if buf, err = encodeRecord(buf, recs[i]); err != nil {
			return err
		}
		recs[i].end = int64(len(buf) - before)
	}
	if _, err := f.Write(buf); err != nil {
		return errors.Join(err, f.Truncate(s.end))
	}
	for _, r := range recs {
		s.note(r, r.end)
	}
	return nil
}

// reader reads a stream's records that existed when it was made.
type reader struct {
	stream *stream
	file   *os.File
	buf    *bufio.Reader
	offset int64
	end    int64
}

// read opens a reader at an offset, which is brought into the stream's bounds.
func (s *stream) read(offset int64) (*reader, error) {
	s.mu.Lock()
	end := s.end
	s.mu.Unlock()
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	offset = min(max(offset, s.begin), end)
	return &reader{stream: s, file: f, offset: offset, end: end}, nil
}

func (r *reader) close() { _ = r.file.Close() }

// next returns the record at the reader's offset and moves behind it; io.EOF
// at the end.
func (r *reader) next() (record, error) {
	if r.offset >= r.end {
		return record{}, io.EOF
	}
	if r.buf == nil {
		r.buf = bufio.NewReaderSize(io.NewSectionReader(r.file, r.offset, r.end-r.offset), 16<<10)
	}
	rec := record{offset: r.offset}
	n, err := readRecord(r.buf, &rec)
	if err != nil {
		return record{}, fmt.Errorf("%s at %d: %w", r.stream.path, r.offset, err)
	}
	r.offset += n
	rec.end = r.offset
	return rec, nil
}

// previous returns the record before the reader's offset and moves in front of
// it; io.EOF at the beginning.
func (r *reader) previous() (record, error) {
	r.buf = nil
	if r.offset <= r.stream.begin {
		return record{}, io.EOF
	}
	var length [4]byte
	if _, err := r.file.ReadAt(length[:], r.offset-4); err != nil {
		return record{}, err
	}
	n := int64(binary.BigEndian.Uint32(length[:]))
	rec := record{offset: r.offset - n - frame, end: r.offset}
	if rec.offset < r.stream.begin {
		return record{}, fmt.Errorf("%s at %d: %w", r.stream.path, r.offset, errCorrupt)
	}
	b := make([]byte, n)
	if _, err := r.file.ReadAt(b, rec.offset+4); err != nil {
		return record{}, err
	}
	if err := json.Unmarshal(b, &rec); err != nil {
		return record{}, fmt.Errorf("%s at %d: %w: %w", r.stream.path, r.offset, errCorrupt, err)
	}
	r.offset = rec.offset
	return rec, nil
}
