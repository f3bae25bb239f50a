package sagemaker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	logFlush    = 200 * time.Millisecond
	maxLogEvent = 256 << 10 // bytes of a CloudWatch Logs event
	maxLogBatch = 1000      // events; the service allows 10,000 and 1 MiB
)

// logStream carries a container's output to its CloudWatch stream, line by line.
type logStream struct {
	writer *os.File
	once   sync.Once
	done   chan struct{}
}

// newLogStream makes a stream; observe sees every event before it is sent.
func (s *Service) newLogStream(name string, observe func(LogEvent)) (*logStream, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe for the log: %w", err)
	}
	l := &logStream{writer: w, done: make(chan struct{})}
	events := make(chan LogEvent, maxLogBatch)
	go func() {
		defer close(events)
		defer r.Close()
		readLines(r, func(line string) {
			e := LogEvent{Time: time.Now(), Message: line}
			observe(e)
			events <- e
		})
	}()
	go func() {
		defer close(l.done)
		s.sendEvents(name, events)
	}()
	return l, nil
}

// closeWriter ends the platform's own part in the stream. The stream ends when
// the container has closed it as well.
func (l *logStream) closeWriter() { l.once.Do(func() { l.writer.Close() }) }

// wait returns when all of the log has been sent.
func (l *logStream) wait() {
	l.closeWriter()
	<-l.done
}

// readLines calls line for each line, without its end. What is longer than an
// event may be is cut into several.
func readLines(r io.Reader, line func(string)) {
	b := bufio.NewReaderSize(r, maxLogEvent)
	for {
		part, err := b.ReadSlice('\n')
		text := strings.TrimSuffix(string(part), "\n")
		if len(part) > 0 {
			line(text)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// sendEvents sends what comes in batches, at most logFlush late.
func (s *Service) sendEvents(stream string, events <-chan LogEvent) {
	var batch []LogEvent
	size := 0
	send := func() {
		if len(batch) == 0 {
			return
		}
		// The log outlives a stop, and even the server's last moments.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.opts.Logs.PutEvents(ctx, logGroup, stream, batch); err != nil {
			s.log.WithError(err).WithField("stream", stream).Error("sagemaker: log events lost")
		}
		batch, size = nil, 0
	}
	tick := time.NewTicker(logFlush)
	defer tick.Stop()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				send()
				return
			}
			batch = append(batch, e)
			size += len(e.Message)
			if len(batch) >= maxLogBatch || size >= maxLogEvent {
				send()
			}
		case <-tick.C:
			send()
		}
	}
}

// metrics reads the numbers that MetricDefinitions describe out of the log.
type metrics struct {
	mu     sync.Mutex
	names  []string
	regexs []*regexp.Regexp
	last   map[string]metricData
}

func newMetrics(definitions []metricDefinition) *metrics {
	m := &metrics{last: map[string]metricData{}}
	for _, d := range definitions {
		re, err := regexp.Compile(d.Regex)
		if err != nil {
			continue // refused at create; a job of an older server
		}
		m.names, m.regexs = append(m.names, d.Name), append(m.regexs, re)
	}
	return m
}

func (m *metrics) observe(e LogEvent) {
	if len(m.regexs) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, re := range m.regexs {
		found := re.FindStringSubmatch(e.Message)
		if len(found) < 2 {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(found[1]), 64)
		if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
			continue // JSON has no such number
		}
		m.last[m.names[i]] = metricData{MetricName: m.names[i], Value: value, Timestamp: epoch(e.Time)}
	}
}

// final is the last value of each metric, in the order of their definitions.
func (m *metrics) final() []metricData {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []metricData
	seen := map[string]bool{}
	for _, n := range m.names {
		if d, ok := m.last[n]; ok && !seen[n] {
			seen[n] = true
			list = append(list, d)
		}
	}
	return list
}
