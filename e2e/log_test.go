package e2e_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A section marker of GitLab's job log: ESC[0Ksection_start:TIME:NAME[options]CR ESC[0K
// (https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections).
var sectionMarker = regexp.MustCompile(`(?:\x1b\[0K)?section_(start|end):\d+:([A-Za-z0-9_.-]+)(\[[^\]]*\])?\r\x1b\[0K`)

// section returns what stands between the markers of the named section: the text
// as the script wrote it, less what the executor itself says (its own sections,
// nested in the runner's, and its status lines) and the runner's header.
func section(trace []byte, name string) (text string, found bool) {
	log := string(trace)
	var out strings.Builder
	var open []string
	last := 0
	for _, at := range sectionMarker.FindAllStringSubmatchIndex(log, -1) {
		if len(open) > 0 && open[len(open)-1] == name {
			out.WriteString(log[last:at[0]])
		}
		last = at[1]
		kind, section := log[at[2]:at[3]], log[at[4]:at[5]]
		if kind == "end" && strings.HasPrefix(section, "sagemaker_") && strings.HasPrefix(log[last:], "\n") {
			last++ // the executor ends the line of its marker
		}
		if kind == "start" {
			open = append(open, section)
			found = found || section == name
			continue
		}
		for len(open) > 0 {
			top := open[len(open)-1]
			open = open[:len(open)-1]
			if top == section {
				break
			}
		}
	}
	if len(open) > 0 && open[len(open)-1] == name {
		out.WriteString(log[last:])
	}
	return out.String(), found
}

// output is what a section shows of the user's script alone: without the
// runner's header and its notices, and without the executor's status lines.
func output(trace []byte, name string) string {
	text, found := section(trace, name)
	if !found {
		return ""
	}
	_, text, _ = strings.Cut(text, "\n") // the header's line
	text = runnerNotice.ReplaceAllString(text, "")
	return statusLine.ReplaceAllString(text, "")
}

var (
	// What GitLab Runner itself prints inside the sections.
	runnerNotice = regexp.MustCompile(`(?m)^(\x1b\[0;33m)?WARNING: Starting with version 17\.0 the 'build_script' stage will be replaced[^\n]*\n`)
	// What the executor prints there (executor/joblog).
	statusLine = regexp.MustCompile(`(?m)^(?:\x1b\[0K)?(?:\x1b\[[0-9;]*m)?sagemaker: [^\n]*\n`)
)

func TestSectionLeavesOutNestedOnes(t *testing.T) {
	t.Parallel()
	start := func(name string) string { return "\x1b[0Ksection_start:1700000000:" + name + "\r\x1b[0K" }
	end := func(name string) string { return "\x1b[0Ksection_end:1700000000:" + name + "\r\x1b[0K" }
	log := "before\n" + start("step_script") + "Header\none\n" + start("sagemaker_start") + "ours\n" + end("sagemaker_start") +
		"\ntwo\r\x1b[31mred\x1b[0m" + end("step_script") + start("after_script") + "Header\nthree\n"
	text, found := section([]byte(log), "step_script")
	assert.True(t, found)
	assert.Equal(t, "Header\none\ntwo\r\x1b[31mred\x1b[0m", text)
	assert.Equal(t, "one\ntwo\r\x1b[31mred\x1b[0m", output([]byte(log), "step_script"))
	assert.Equal(t, "three\n", output([]byte(log), "after_script"))
	_, found = section([]byte(log), "get_sources")
	assert.False(t, found)
}
