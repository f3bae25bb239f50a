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
// endian), its content, and the length again, so that a long log can be read
// from either end without holding it. The first record is the header, in JSON;
// the others are events: the two times, eight bytes each, and the message.
const (
	frame = 8
	times = 16
)

// Event is one event of a log.
type Event struct {
	Time    time.Time // millisecond resolution
	Message string
}

// record is an event as it lies in the file.
type record struct {
	Timestamp int64 // milliseconds since 1970
	Ingestion int64
	Message   string

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

func appendRecord(buf, content []byte) []byte {
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(content)))
	buf = append(buf, content...)
	return binary.BigEndian.AppendUint32(buf, uint32(len(content)))
}

func (r record) append(buf []byte) []byte {
	n := uint32(times + len(r.Message))
	buf = binary.BigEndian.AppendUint32(buf, n)
	buf = binary.BigEndian.AppendUint64(buf, uint64(r.Timestamp))
	buf = binary.BigEndian.AppendUint64(buf, uint64(r.Ingestion))
	buf = append(buf, r.Message...)
	return binary.BigEndian.AppendUint32(buf, n)
}

func (r *record) decode(content []byte) error {
	if len(content) < times {
		return errCorrupt
	}
	r.Timestamp = int64(binary.BigEndian.Uint64(content))
	r.Ingestion = int64(binary.BigEndian.Uint64(content[8:]))
	r.Message = string(content[times:])
	return nil
}

func createStream(path, name string, now int64) (*stream, error) {
	s := &stream{streamHeader: streamHeader{Name: name, Created: now}, path: path}
	header, err := json.Marshal(s.streamHeader)
	if err != nil {
		return nil, err
	}
	b := appendRecord(nil, header)
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
	header, err := readRecord(r)
	if err == nil {
		err = json.Unmarshal(header, &s.streamHeader)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.begin = int64(len(header)) + frame
	s.end = s.begin
	for {
		var rec record
		content, err := readRecord(r)
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err == nil {
			err = rec.decode(content)
		}
		if err != nil {
			return s, f.Truncate(s.end)
		}
		s.note(rec, int64(len(content))+frame)
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

// readRecord reads one record's content. io.EOF means that there is none; an
// incomplete one is errCorrupt.
func readRecord(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, errCorrupt
	}
	b := make([]byte, int64(binary.BigEndian.Uint32(length[:]))+4)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, errCorrupt
	}
	return b[:len(b)-4], nil
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
	size := 0
	for _, e := range events {
		size += frame + times + len(e.Message)
	}
	buf := make([]byte, 0, size)
	for _, e := range events {
		buf = record{Timestamp: e.Time.UnixMilli(), Ingestion: now, Message: e.Message}.append(buf)
	}
	if _, err := f.Write(buf); err != nil {
		return errors.Join(err, f.Truncate(s.end))
	}
	for _, e := range events {
		r := record{Timestamp: e.Time.UnixMilli(), Ingestion: now, Message: e.Message}
		s.note(r, int64(frame+times+len(e.Message)))
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
	content, err := readRecord(r.buf)
	if err == nil {
		err = rec.decode(content)
	}
	if err != nil {
		return record{}, fmt.Errorf("%s at %d: %w", r.stream.path, r.offset, err)
	}
	r.offset += int64(len(content)) + frame
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
	if err := rec.decode(b); err != nil {
		return record{}, fmt.Errorf("%s at %d: %w", r.stream.path, r.offset, err)
	}
	r.offset = rec.offset
	return rec, nil
}
