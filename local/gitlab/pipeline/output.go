package pipeline

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
)

// printer writes the lines of several sources to one place, whole.
type printer struct {
	color bool

	mu  sync.Mutex
	out io.Writer
}

// notice is a line of the pipeline itself.
func (p *printer) notice(format string, args ...any) {
	p.line("", fmt.Sprintf(format, args...))
}

func (p *printer) line(prefix, text string) {
	if !p.color {
		text = escapeSequence.ReplaceAllString(text, "")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = io.WriteString(p.out, prefix+text+"\n")
}

// escapeSequence are colours and the like (ECMA-48 control sequences).
var escapeSequence = regexp.MustCompile(`\x1b\[[0-9;?]*[ -/]*[@-~]`)

// sectionMarker is how GitLab marks the sections of a job log; the job page
// folds them, a terminal has nothing to fold.
var sectionMarker = regexp.MustCompile(`section_(?:start|end):\d+:[\w.-]+(?:\[[^\]]*\])?\r\x1b\[0K`)

// eraseLine is what the runner puts at the beginning of its own lines.
const eraseLine = "\x1b[0K"

// jobLog prints the log of one job, a line at a time, behind the job's name.
type jobLog struct {
	printer *printer
	prefix  string
	rest    []byte
}

// palette are the colours of the jobs' names.
var palette = []int{36, 35, 33, 32, 34}

// newJobLog makes a log whose lines begin with the name, filled up to width; a
// width of 0 means no name.
func newJobLog(p *printer, name string, width, number int) *jobLog {
	l := &jobLog{printer: p}
	if width > 0 {
		l.prefix = fmt.Sprintf("%-*s | ", width, name)
		if p.color {
			l.prefix = fmt.Sprintf("\x1b[%dm%s\x1b[0m", palette[number%len(palette)], l.prefix)
		}
	}
	return l
}

// maxLine is where a line without an end is broken.
const maxLine = 64 << 10

func (l *jobLog) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			if len(l.rest) > maxLine {
				l.print(l.rest)
				l.rest = nil
			}
			return len(p), nil
		}
		l.print(line)
		l.rest = rest
	}
}

// Close prints what came without a newline.
func (l *jobLog) Close() {
	if len(l.rest) > 0 {
		l.print(l.rest)
	}
	l.rest = nil
}

func (l *jobLog) print(raw []byte) {
	text := string(raw)
	without := sectionMarker.ReplaceAllString(text, "")
	marked := without != text
	text = strings.TrimSuffix(without, "\r")
	// A progress bar goes back to the line's start: its last state remains.
	if at := strings.LastIndexByte(text, '\r'); at >= 0 {
		text = text[at+1:]
	}
	text = strings.TrimPrefix(text, eraseLine)
	if marked && escapeSequence.ReplaceAllString(text, "") == "" {
		return
	}
	l.printer.line(l.prefix, text)
}
