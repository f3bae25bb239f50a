package agent

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

func TestConsoleShowsWhatTheAdministratorAllows(t *testing.T) {
	t.Parallel()
	script := []string{"loading secret\nepoch 1 lo", "ss=0.5 secret\nno newline loss=0.1"}
	for mode, want := range map[exchange.CloudWatch]string{
		"":                         "loading [MASKED]\nepoch 1 loss=0.5 [MASKED]\nno newline loss=0.1",
		exchange.CloudWatchFull:    "loading [MASKED]\nepoch 1 loss=0.5 [MASKED]\nno newline loss=0.1",
		exchange.CloudWatchMetrics: "epoch 1 loss=0.5 [MASKED]\nno newline loss=0.1",
		exchange.CloudWatchOff:     "",
	} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			c := newConsole(&out)
			_, err := io.WriteString(c, "before it is known, nothing is shown")
			require.NoError(t, err)
			c.configure(exchange.Job{CloudWatch: mode, Masked: []string{"secret"}, Metrics: []string{`loss=([0-9.]+)`, `(?<bad`}})
			for _, s := range script {
				_, err := io.WriteString(c, s)
				require.NoError(t, err)
			}
			c.Flush()
			assert.Equal(t, want, out.String())
			c.Printf("our own\n")
			assert.True(t, strings.HasSuffix(out.String(), "our own\n"))
		})
	}
}

func TestMetricLinesAreBounded(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	m := newMetricLines(&out, []string{"^loss"})
	long := "loss" + strings.Repeat("x", 3*maxLine)
	for _, s := range []string{long, long, "\nloss=2\n"} {
		_, err := io.WriteString(m, s)
		require.NoError(t, err)
	}
	assert.Equal(t, long[:maxLine]+"\nloss=2\n", out.String())
}

func TestLogWriterSendsEverythingInOrder(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	chunks := map[int][]byte{}
	w := newLogWriter(func(n int, b []byte) {
		mu.Lock()
		defer mu.Unlock()
		chunks[n] = bytes.Clone(b)
	})
	var want bytes.Buffer
	for n := range 2000 {
		piece := bytes.Repeat([]byte{byte(n)}, n*17%40000)
		want.Write(piece)
		_, err := w.Write(piece)
		require.NoError(t, err)
	}
	count, size := w.Close()
	assert.Len(t, chunks, count)
	assert.EqualValues(t, want.Len(), size)
	var got bytes.Buffer
	for n := range count {
		assert.NotEmpty(t, chunks[n])
		assert.LessOrEqual(t, len(chunks[n]), lastChunk)
		got.Write(chunks[n])
	}
	assert.True(t, bytes.Equal(want.Bytes(), got.Bytes()))
}

func TestLogWriterOfNothing(t *testing.T) {
	t.Parallel()
	w := newLogWriter(func(int, []byte) { t.Error("nothing to send") })
	chunks, size := w.Close()
	assert.Zero(t, chunks)
	assert.Zero(t, size)
}

// While nothing can be sent, output waits in one chunk, and then the writer does.
func TestLogWriterHoldsBackTheScript(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	w := newLogWriter(func(int, []byte) { <-release })
	written := make(chan struct{})
	go func() {
		defer close(written)
		piece := make([]byte, 1<<20)
		for range (logSenders + 2) * lastChunk >> 20 {
			_, _ = w.Write(piece)
		}
	}()
	w.mu.Lock()
	for w.chunks < logSenders || len(w.buf) < lastChunk {
		w.changed.Wait()
	}
	assert.Len(t, w.buf, lastChunk)
	w.mu.Unlock()
	select {
	case <-written:
		assert.Fail(t, "the writer must wait")
	default:
	}
	close(release)
	<-written
	_, size := w.Close()
	assert.EqualValues(t, (logSenders+2)*lastChunk, size)
}
