// Package joblog writes what the executor itself has to say into a job's log:
// collapsible sections, status lines, links, and the closing summary.
//
// The runner puts timestamps on all lines and masks secrets; neither is done
// here.
package joblog

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/internal/lazyregexp"
)

// Escape sequences as GitLab Runner's own messages have them
// (helpers/ansi_colors.go in GitLab Runner).
const (
	clearLine = "\x1b[0K"
	reset     = "\x1b[0;m"
	bold      = "\x1b[36;1m"
	yellow    = "\x1b[0;33m"
	red       = "\x1b[31;1m"
	grey      = "\x1b[0;37m"
)

// prefix begins every status line, so that it can be told from the output of
// the user's script.
const prefix = "sagemaker: "

// Log writes to a job's log. It can be used by several goroutines; a write that
// fails is dropped, since there is nobody left to tell.
type Log struct {
	mu  sync.Mutex
	w   io.Writer
	now func() time.Time
	// partial says that the last byte written by somebody else through
	// Writer was not a newline.
	partial bool
}

// New writes to w.
func New(w io.Writer) *Log { return NewWithClock(w, time.Now) }

// NewWithClock takes the times of sections from now.
func NewWithClock(w io.Writer, now func() time.Time) *Log { return &Log{w: w, now: now} }

// Section starts a section and returns the function that ends it. GitLab shows
// how long it took, and hides what is in it behind the header if it is
// collapsed. Sections may be nested.
// See https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections.
func (l *Log) Section(name, header string, collapsed bool) (end func()) {
	name = sectionName(name)
	option := ""
	if collapsed {
		option = "[collapsed=true]"
	}
	l.write(fmt.Sprintf("%ssection_start:%d:%s%s\r%s%s%s%s\n",
		clearLine, l.now().Unix(), name, option, clearLine, bold, clean(header), reset))
	var once sync.Once
	return func() {
		once.Do(func() {
			l.write(fmt.Sprintf("%ssection_end:%d:%s\r%s\n", clearLine, l.now().Unix(), name, clearLine))
		})
	}
}

// Line writes a status line.
func (l *Log) Line(format string, a ...any) { l.status(grey, format, a) }

// Warn writes a status line that something is not as it should be, and the job
// goes on.
func (l *Log) Warn(format string, a ...any) { l.status(yellow, format, a) }

// Error writes a status line that the job fails, and why.
func (l *Log) Error(format string, a ...any) { l.status(red, format, a) }

// Link writes a status line with a URL, which GitLab makes clickable.
func (l *Log) Link(label, url string) { l.Line("%s: %s", label, url) }

// Summary writes the closing lines of a job: name and value pairs, aligned.
func (l *Log) Summary(pairs ...[2]string) {
	width := 0
	for _, p := range pairs {
		width = max(width, len([]rune(p[0])))
	}
	for _, p := range pairs {
		l.Line("%-*s  %s", width, p[0], p[1])
	}
}

// Writer passes bytes of others through, unchanged, and keeps status lines from
// starting in the middle of a line of theirs.
func (l *Log) Writer() io.Writer { return passThrough{l} }

type passThrough struct{ l *Log }

func (p passThrough) Write(b []byte) (int, error) {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	n, err := p.l.w.Write(b)
	if n > 0 {
		p.l.partial = b[n-1] != '\n'
	}
	return n, err
}

func (l *Log) status(color, format string, a []any) {
	text := format
	if len(a) > 0 {
		text = fmt.Sprintf(format, a...)
	}
	var b strings.Builder
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		b.WriteString(clearLine + color + prefix + clean(line) + reset + "\n")
	}
	l.write(b.String())
}

func (l *Log) write(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.partial {
		s = "\n" + s
		l.partial = false
	}
	_, _ = io.WriteString(l.w, s)
}

// clean takes control characters out: names and texts of others could end our
// sections or begin ones of their own.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

var notInSectionNames = lazyregexp.New(`[^A-Za-z0-9_.-]+`)

// sectionName has the characters that GitLab allows.
func sectionName(s string) string {
	if s = notInSectionNames().ReplaceAllString(s, "_"); s == "" {
		return "sagemaker"
	}
	return s
}
