package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// AWS's limits. https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
const (
	maxBatchEvents = 10_000
	maxBatchBytes  = 1 << 20
	eventOverhead  = 26
	maxSpan        = 24 * time.Hour
	tooNew         = 2 * time.Hour
	tooOld         = 14 * 24 * time.Hour
	maxPageEvents  = 10_000
	maxPageBytes   = 1 << 20
)

type inputEvent struct {
	Timestamp int64  `json:"timestamp"`
	Message   string `json:"message"`
}

type putLogEventsInput struct {
	streamRef
	LogEvents []inputEvent `json:"logEvents"`
}

type rejectedInfo struct {
	TooNewLogEventStartIndex *int `json:"tooNewLogEventStartIndex,omitempty"`
	TooOldLogEventEndIndex   *int `json:"tooOldLogEventEndIndex,omitempty"`
	ExpiredLogEventEndIndex  *int `json:"expiredLogEventEndIndex,omitempty"`
}

type putLogEventsOutput struct {
	NextSequenceToken     string        `json:"nextSequenceToken"`
	RejectedLogEventsInfo *rejectedInfo `json:"rejectedLogEventsInfo,omitempty"`
}

func (s *Service) putLogEvents(_ context.Context, in *putLogEventsInput) (*putLogEventsOutput, error) {
	g, err := s.store.group(in.LogGroupName)
	if err != nil {
		return nil, err
	}
	st, err := g.stream(in.LogStreamName)
	if err != nil {
		return nil, err
	}
	if err := checkBatch(in.LogEvents); err != nil {
		return nil, err
	}
	out := &putLogEventsOutput{}
	events := in.LogEvents
	now := s.store.millis()
	if n := slices.IndexFunc(events, func(e inputEvent) bool { return e.Timestamp > now+tooNew.Milliseconds() }); n >= 0 {
		out.RejectedLogEventsInfo = &rejectedInfo{TooNewLogEventStartIndex: &n}
		events = events[:n]
	}
	oldest, expired := now-tooOld.Milliseconds(), int64(0)
	if days := g.info().Retention; days > 0 {
		expired = now - (time.Duration(days) * 24 * time.Hour).Milliseconds()
	}
	old := slices.IndexFunc(events, func(e inputEvent) bool { return e.Timestamp >= max(oldest, expired) })
	if old < 0 {
		old = len(events)
	}
	if old > 0 {
		if out.RejectedLogEventsInfo == nil {
			out.RejectedLogEventsInfo = &rejectedInfo{}
		}
		if expired > oldest {
			out.RejectedLogEventsInfo.ExpiredLogEventEndIndex = &old
		} else {
			out.RejectedLogEventsInfo.TooOldLogEventEndIndex = &old
		}
		events = events[old:]
	}
	kept := make([]Event, len(events))
	for i, e := range events {
		kept[i] = Event{Time: time.UnixMilli(e.Timestamp), Message: e.Message}
	}
	if len(kept) > 0 {
		if err := st.append(kept, now); err != nil {
			return nil, fmt.Errorf("append to log stream %q: %w", in.LogStreamName, err)
		}
	}
	st.mu.Lock()
	out.NextSequenceToken = sequenceToken(st.end)
	st.mu.Unlock()
	return out, nil
}

func checkBatch(events []inputEvent) error {
	if len(events) == 0 || len(events) > maxBatchEvents {
		return invalid("1 validation error detected: Value at 'logEvents' failed to satisfy constraint: Member must have length between 1 and %d", maxBatchEvents)
	}
	size := 0
	for i, e := range events {
		size += len(e.Message) + eventOverhead
		if e.Message == "" {
			return invalid("1 validation error detected: Value '' at 'logEvents.%d.member.message' failed to satisfy constraint: Member must have length greater than or equal to 1", i+1)
		}
		if i > 0 && e.Timestamp < events[i-1].Timestamp {
			return invalid("Log events in a single PutLogEvents request must be in chronological order.")
		}
	}
	if size > maxBatchBytes {
		return invalid("Upload too large: %d bytes exceeds limit of %d", size, maxBatchBytes)
	}
	if events[len(events)-1].Timestamp-events[0].Timestamp > maxSpan.Milliseconds() {
		return invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
	}
	return nil
}

type getLogEventsInput struct {
	groupRef
	LogStreamName string `json:"logStreamName"`
	StartTime     *int64 `json:"startTime"` // inclusive
	EndTime       *int64 `json:"endTime"`   // exclusive
	NextToken     string `json:"nextToken"`
	Limit         int    `json:"limit"`
	StartFromHead bool   `json:"startFromHead"`
}

type outputEvent struct {
	Timestamp     int64  `json:"timestamp"`
	Message       string `json:"message"`
	IngestionTime int64  `json:"ingestionTime"`
}

type getLogEventsOutput struct {
	Events            []outputEvent `json:"events"`
	NextForwardToken  string        `json:"nextForwardToken"`
	NextBackwardToken string        `json:"nextBackwardToken"`
}

// getLogEvents reads a page. A token is a direction and a place in the stream's
// file; at an end of the stream the answer holds the token that it was asked
// with, as AWS documents.
func (s *Service) getLogEvents(_ context.Context, in *getLogEventsInput) (*getLogEventsOutput, error) {
	g, err := s.find(in.groupRef)
	if err != nil {
		return nil, err
	}
	st, err := g.stream(in.LogStreamName)
	if err != nil {
		return nil, err
	}
	forward := in.StartFromHead
	from := int64(0)
	st.mu.Lock()
	if !forward {
		from = st.end
	}
	st.mu.Unlock()
	if in.NextToken != "" {
		if forward, from, err = parsePlace(in.NextToken); err != nil {
			return nil, err
		}
	}
	r, err := st.read(from)
	if err != nil {
		return nil, err
	}
	defer r.close()
	step := r.next
	if !forward {
		step = r.previous
	}
	limit, size := limitOr(in.Limit, maxPageEvents), 0
	first, last := r.offset, r.offset
	out := &getLogEventsOutput{Events: []outputEvent{}}
	for len(out.Events) < limit {
		rec, err := step()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if in.StartTime != nil && rec.Timestamp < *in.StartTime || in.EndTime != nil && rec.Timestamp >= *in.EndTime {
			first, last = min(first, rec.offset), max(last, rec.end)
			continue
		}
		if size += len(rec.Message) + eventOverhead; size > maxPageBytes && len(out.Events) > 0 {
			break
		}
		first, last = min(first, rec.offset), max(last, rec.end)
		out.Events = append(out.Events, outputEvent{rec.Timestamp, rec.Message, rec.Ingestion})
	}
	if !forward {
		slices.Reverse(out.Events)
	}
	out.NextForwardToken, out.NextBackwardToken = place("f", last), place("b", first)
	return out, nil
}

func place(direction string, offset int64) string {
	return fmt.Sprintf("%s/%056d/s", direction, offset)
}

func parsePlace(token string) (forward bool, offset int64, err error) {
	parts := strings.Split(token, "/")
	if len(parts) == 3 && (parts[0] == "f" || parts[0] == "b") {
		if offset, err = strconv.ParseInt(parts[1], 10, 64); err == nil {
			return parts[0] == "f", offset, nil
		}
	}
	return false, 0, invalid("The specified nextToken is invalid.")
}
