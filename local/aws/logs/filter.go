package logs

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

type filterLogEventsInput struct {
	groupRef
	LogStreamNames      []string `json:"logStreamNames"`
	LogStreamNamePrefix string   `json:"logStreamNamePrefix"`
	StartTime           *int64   `json:"startTime"` // inclusive
	EndTime             *int64   `json:"endTime"`   // inclusive
	FilterPattern       string   `json:"filterPattern"`
	NextToken           string   `json:"nextToken"`
	Limit               int      `json:"limit"`
}

type filteredEvent struct {
	LogStreamName string `json:"logStreamName"`
	Timestamp     int64  `json:"timestamp"`
	Message       string `json:"message"`
	IngestionTime int64  `json:"ingestionTime"`
	EventID       string `json:"eventId"`
}

type filterLogEventsOutput struct {
	Events             []filteredEvent `json:"events"`
	SearchedLogStreams []struct{}      `json:"searchedLogStreams"` // always empty, as AWS since 2020
	NextToken          string          `json:"nextToken,omitempty"`
}

// filterLogEvents merges the streams by time. A token is the place of the last
// event that was looked at: time, stream, offset.
func (s *Service) filterLogEvents(_ context.Context, in *filterLogEventsInput) (*filterLogEventsOutput, error) {
	if len(in.LogStreamNames) > 0 && in.LogStreamNamePrefix != "" {
		return nil, invalid("logStreamNamePrefix and logStreamNames are mutually exclusive parameters.")
	}
	g, err := s.find(in.groupRef)
	if err != nil {
		return nil, err
	}
	matches, err := parsePattern(in.FilterPattern)
	if err != nil {
		return nil, err
	}
	after, err := decodeToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	streams := g.list(in.LogStreamNamePrefix)
	if len(in.LogStreamNames) > 0 {
		streams = nil
		for _, name := range in.LogStreamNames {
			st, err := g.stream(name)
			if err != nil {
				return nil, err
			}
			streams = append(streams, st)
		}
	}
	var m merge
	defer func() { m.close() }()
	for _, st := range streams {
		if in.StartTime != nil && st.lastTimestamp() < *in.StartTime {
			continue
		}
		if err := m.add(st); err != nil {
			return nil, err
		}
	}
	limit, size := limitOr(in.Limit, maxPageEvents), 0
	out := &filterLogEventsOutput{Events: []filteredEvent{}, SearchedLogStreams: []struct{}{}}
	seen := after
	for {
		c, err := m.next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if c.place <= after || in.StartTime != nil && c.Timestamp < *in.StartTime || in.EndTime != nil && c.Timestamp > *in.EndTime || !matches(c.Message) {
			continue
		}
		size += len(c.Message) + eventOverhead
		if len(out.Events) == limit || size > maxPageBytes && len(out.Events) > 0 {
			out.NextToken = encodeToken(seen)
			return out, nil
		}
		seen = c.place
		out.Events = append(out.Events, filteredEvent{c.stream, c.Timestamp, c.Message, c.Ingestion, fmt.Sprintf("%056d", c.offset)})
	}
}

func (s *stream) lastTimestamp() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// merge reads several streams in the order of their events' times. Within one
// stream time does not go back: an earlier event counts as of its predecessor's
// time.
type merge []*cursor

type cursor struct {
	reader *reader
	record
	time   int64
	stream string
	place  string // sorts as (time, stream, offset)
}

func (m merge) Len() int           { return len(m) }
func (m merge) Less(i, j int) bool { return m[i].place < m[j].place }
func (m merge) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(x any)        { *m = append(*m, x.(*cursor)) }
func (m *merge) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}

func (m *merge) add(st *stream) error {
	r, err := st.read(0)
	if err != nil {
		return err
	}
	c := &cursor{reader: r, stream: st.Name}
	if err := c.advance(); err != nil {
		r.close()
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	heap.Push(m, c)
	return nil
}

func (c *cursor) advance() error {
	rec, err := c.reader.next()
	if err != nil {
		return err
	}
	c.record = rec
	c.time = max(c.time, rec.Timestamp)
	c.place = fmt.Sprintf("%016d %s %016d", c.time, c.stream, rec.offset)
	return nil
}

// next returns the next event of all streams; io.EOF at the end of all.
func (m *merge) next() (cursor, error) {
	if len(*m) == 0 {
		return cursor{}, io.EOF
	}
	c := (*m)[0]
	found := *c
	switch err := c.advance(); {
	case err == nil:
		heap.Fix(m, 0)
	case errors.Is(err, io.EOF):
		heap.Pop(m)
		c.reader.close()
	default:
		return cursor{}, err
	}
	return found, nil
}

func (m *merge) close() {
	for _, c := range *m {
		c.reader.close()
	}
}

// parsePattern reads a filter pattern for unstructured logs: terms that must all
// be there, "quoted phrases", ?alternatives, -exclusions. Patterns for JSON and
// space-delimited logs and regular expressions are refused.
//
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
func parsePattern(pattern string) (func(string) bool, error) {
	pattern = strings.TrimSpace(pattern)
	if pattern != "" && strings.ContainsAny(pattern[:1], "{[%") {
		return nil, invalid("Invalid filter pattern: the local CloudWatch Logs has terms, phrases, ?alternatives and -exclusions only")
	}
	var all, any, none []string
	for pattern != "" {
		list := &all
		switch pattern[0] {
		case '?':
			list, pattern = &any, pattern[1:]
		case '-':
			list, pattern = &none, pattern[1:]
		}
		var term string
		if strings.HasPrefix(pattern, `"`) {
			end := strings.Index(pattern[1:], `"`)
			if end < 0 {
				return nil, invalid("Invalid filter pattern")
			}
			term, pattern = pattern[1:end+1], pattern[end+2:]
		} else {
			term, pattern, _ = strings.Cut(pattern, " ")
		}
		if term == "" {
			return nil, invalid("Invalid filter pattern")
		}
		*list = append(*list, term)
		pattern = strings.TrimLeft(pattern, " ")
	}
	return func(message string) bool {
		for _, t := range none {
			if strings.Contains(message, t) {
				return false
			}
		}
		for _, t := range all {
			if !strings.Contains(message, t) {
				return false
			}
		}
		found := len(any) == 0
		for _, t := range any {
			found = found || strings.Contains(message, t)
		}
		return found
	}, nil
}
