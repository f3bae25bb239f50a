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
	maxLogBatch = 10_000    // events, as the service allows
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
	batches := make(chan []LogEvent, 1)
	go func() {
		defer close(batches)
		defer r.Close()
		collectEvents(r, observe, batches)
	}()
	go func() {
		defer close(l.done)
		for batch := range batches {
			s.sendEvents(name, batch)
		}
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

// collectEvents gathers the lines of r to batches, at most logFlush late.
func collectEvents(r io.Reader, observe func(LogEvent), batches chan<- []LogEvent) {
	var mu sync.Mutex // of batch, and of what is sent: batches go in order
	var batch []LogEvent
	size := 0
	send := func() {
		if len(batch) > 0 {
			batches <- batch
			batch, size = nil, 0
		}
	}
	done := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() {
		tick := time.NewTicker(logFlush)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				mu.Lock()
				send()
				mu.Unlock()
			}
		}
	})
	readLines(r, func(line string) {
		e := LogEvent{Time: time.Now(), Message: line}
		observe(e)
		mu.Lock()
		defer mu.Unlock()
		batch = append(batch, e)
		if size += len(line); len(batch) >= maxLogBatch || size >= maxLogEvent {
			send()
		}
	})
	close(done)
	ticking.Wait()
	send()
}

func (s *Service) sendEvents(stream string, batch []LogEvent) {
	// The log outlives a stop, and even the server's last moments.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.opts.Logs.PutEvents(ctx, logGroup, stream, batch); err != nil {
		s.log.WithError(err).WithField("stream", stream).Error("sagemaker: log events lost")
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
