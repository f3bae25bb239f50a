package joblog

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newLog's clock shows a second more each time.
func newLog() (*Log, *strings.Builder) {
	var b strings.Builder
	at := time.Unix(1700000000, 0)
	return NewWithClock(&b, func() time.Time {
		at = at.Add(time.Second)
		return at
	}), &b
}

func TestLog(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		do   func(*Log)
		want string
	}{
		"section": {
			func(l *Log) {
				end := l.Section("sagemaker_start", "Starting an instance", true)
				l.Line("one of %s", "ml.m5.large")
				end()
				end()
			},
			"\x1b[0Ksection_start:1700000001:sagemaker_start[collapsed=true]\r\x1b[0K\x1b[36;1mStarting an instance\x1b[0;m\n" +
				"\x1b[0K\x1b[0;37msagemaker: one of ml.m5.large\x1b[0;m\n" +
				"\x1b[0Ksection_end:1700000002:sagemaker_start\r\x1b[0K\n",
		},
		"open section with a bad name": {
			func(l *Log) { l.Section("a b/c", "header", false) },
			"\x1b[0Ksection_start:1700000001:a_b_c\r\x1b[0K\x1b[36;1mheader\x1b[0;m\n",
		},
		"warning": {func(l *Log) { l.Warn("careful") }, "\x1b[0K\x1b[0;33msagemaker: careful\x1b[0;m\n"},
		"error":   {func(l *Log) { l.Error("100%") }, "\x1b[0K\x1b[31;1msagemaker: 100%\x1b[0;m\n"},
		"link": {
			func(l *Log) { l.Link("Console", "https://example.com/x") },
			"\x1b[0K\x1b[0;37msagemaker: Console: https://example.com/x\x1b[0;m\n",
		},
		"two lines": {
			func(l *Log) { l.Line("a\nb\n") },
			"\x1b[0K\x1b[0;37msagemaker: a\x1b[0;m\n\x1b[0K\x1b[0;37msagemaker: b\x1b[0;m\n",
		},
		"hostile text": {
			func(l *Log) { l.Line("%s", "x\r\x1b[0Ksection_end:1:step_script\r\u009b") },
			"\x1b[0K\x1b[0;37msagemaker: x??[0Ksection_end:1:step_script??\x1b[0;m\n",
		},
		"summary": {
			func(l *Log) { l.Summary([2]string{"Job", "x"}, [2]string{"Model", "s3://b/k"}) },
			"\x1b[0K\x1b[0;37msagemaker: Job    x\x1b[0;m\n\x1b[0K\x1b[0;37msagemaker: Model  s3://b/k\x1b[0;m\n",
		},
		"after a whole line of the script": {
			func(l *Log) { _, _ = io.WriteString(l.Writer(), "out\n"); l.Warn("w") },
			"out\n\x1b[0K\x1b[0;33msagemaker: w\x1b[0;m\n",
		},
		"after part of a line of the script": {
			func(l *Log) { _, _ = io.WriteString(l.Writer(), "out"); l.Warn("w"); l.Warn("w") },
			"out\n\x1b[0K\x1b[0;33msagemaker: w\x1b[0;m\n\x1b[0K\x1b[0;33msagemaker: w\x1b[0;m\n",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, b := newLog()
			tt.do(l)
			assert.Equal(t, tt.want, b.String())
		})
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestWriterReportsErrors(t *testing.T) {
	t.Parallel()
	_, err := New(brokenWriter{}).Writer().Write([]byte("x"))
	require.EqualError(t, err, "gone")
}
