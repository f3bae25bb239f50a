package remote_test

import (
	"bytes"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/remote"
)

// BenchmarkJob is a job of one trivial script, from publishing to the files at
// home: what the exchange adds to a job.
func BenchmarkJob(b *testing.B) {
	for b.Loop() {
		w := newWorld(b)
		w.write("file", "content")
		r := w.published(remote.Options{})
		w.start("")
		_, err := r.Run(b.Context(), script("exit 0"), io.Discard)
		require.NoError(b, err)
		require.NoError(b, r.Finish(b.Context()))
		_, err = r.Collect(b.Context(), w.root(w.project), w.root(w.tmp))
		require.NoError(b, err)
	}
}

// BenchmarkOutput is how fast output is relayed.
func BenchmarkOutput(b *testing.B) {
	const size = 100 << 20
	w := newWorld(b)
	r := w.published(remote.Options{})
	w.start("")
	b.SetBytes(size)
	for b.Loop() {
		result, err := r.Run(b.Context(), script("head -c "+strconv.Itoa(size)+" /dev/zero"), io.Discard)
		require.NoError(b, err)
		require.EqualValues(b, size, result.LogBytes)
	}
}

// lineTimes takes lines that hold the time they were written, in nanoseconds.
type lineTimes struct {
	rest bytes.Buffer
	ages []time.Duration
}

func (l *lineTimes) Write(p []byte) (int, error) {
	now := time.Now()
	l.rest.Write(p)
	for {
		line, err := l.rest.ReadString('\n')
		if err != nil {
			l.rest.Reset()
			l.rest.WriteString(line)
			return len(p), nil
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64); err == nil {
			l.ages = append(l.ages, now.Sub(time.Unix(0, n)))
		}
	}
}

// BenchmarkLogLine is how old a line is when it reaches the job log, for a
// script that writes ten a second.
func BenchmarkLogLine(b *testing.B) {
	w := newWorld(b)
	r := w.published(remote.Options{})
	w.start("")
	var lines lineTimes
	for b.Loop() {
		_, err := r.Run(b.Context(), script("for i in $(seq 50); do date +%s%N; sleep 0.1; done"), &lines)
		require.NoError(b, err)
	}
	b.ReportMetric(percentile(lines.ages, 50).Seconds(), "p50-s")
	b.ReportMetric(percentile(lines.ages, 95).Seconds(), "p95-s")
}

func percentile(d []time.Duration, p int) time.Duration {
	slices.Sort(d)
	return d[(len(d)-1)*p/100]
}
