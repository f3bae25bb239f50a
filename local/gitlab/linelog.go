package gitlab

import (
	"bytes"
	"sync"

	"github.com/sirupsen/logrus"
)

// lineLogger logs what a child process writes, a line at a time.
type lineLogger struct {
	log logrus.FieldLogger

	mu   sync.Mutex
	rest []byte
}

func (l *lineLogger) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.log.Debug(string(line))
		l.rest = rest
	}
}
