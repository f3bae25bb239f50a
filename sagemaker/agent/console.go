package agent

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"sync"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

// maxLine is how much of a line is looked at for metrics.
const maxLine = 64 << 10

// console is the container's stdout, which SageMaker sends to CloudWatch Logs.
// Masking is done in GitLab's log alone, so it must be done here again.
type console struct {
	mu     sync.Mutex
	out    io.Writer
	script *masker      // nil if scripts are not shown
	lines  *metricLines // nil if they are shown whole
}

func newConsole(out io.Writer) *console { return &console{out: out} }

// configure sets what of the scripts' output is shown; nothing is, before.
func (c *console) configure(job exchange.Job) {
	var out io.Writer = c.out
	switch job.CloudWatch {
	case exchange.CloudWatchOff:
		return
	case exchange.CloudWatchMetrics:
		c.lines = newMetricLines(c.out, job.Metrics)
		out = c.lines
	}
	c.script = newMasker(out, job.Masked, job.MaskedPrefixes)
}

// Printf writes a line of the agent's own.
func (c *console) Printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.out, format, args...)
}

// Write takes output of a script.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.script != nil {
		return c.script.Write(p)
	}
	return len(p), nil
}

// Flush is called at the end of a script.
func (c *console) Flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.script == nil {
		return
	}
	c.script.Flush()
	if c.lines != nil {
		c.lines.flushLine()
	}
}

// metricLines lets pass the lines in which a metric is found.
type metricLines struct {
	out     io.Writer
	metrics []*regexp.Regexp
	line    []byte
}

func newMetricLines(out io.Writer, metrics []string) *metricLines {
	m := &metricLines{out: out}
	for _, s := range metrics {
		// SageMaker's own syntax is Python's; what Go cannot read matches nothing here.
		if re, err := regexp.Compile(s); err == nil {
			m.metrics = append(m.metrics, re)
		}
	}
	return m
}

func (m *metricLines) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n') + 1
		part := rest
		if i > 0 {
			part = rest[:i]
		}
		rest = rest[len(part):]
		text := bytes.TrimSuffix(part, []byte("\n"))
		m.line = append(m.line, text[:min(len(text), maxLine-len(m.line))]...)
		if i > 0 {
			m.line = append(m.line, '\n')
			m.flushLine()
		}
	}
	return len(p), nil
}

func (m *metricLines) flushLine() {
	for _, re := range m.metrics {
		if re.Match(m.line) {
			_, _ = m.out.Write(m.line)
			break
		}
	}
	m.line = m.line[:0]
}
