package e2e_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

func TestOutput(t *testing.T) {
	t.Parallel()
	for name, script := range map[string][]string{
		"colours and carriage returns": lines(
			`for i in 1 2 3; do printf '\rprogress %s/3' "$i"; sleep 0.4; done; echo`,
			`printf '\033[31mred\033[0m \033[1;32mgreen\033[0;m\n'`,
		),
		"binary":                  lines(`printf '\000\001\002\377\376\303\050 \342\202\n'`, `head -c 3000 /bin/sh | od -An -v -tu1 | tr -d '\n'; echo`),
		"raw bytes of a program":  lines(`head -c 20000 /bin/sh`, `echo`, `echo after`),
		"no final newline":        lines(`printf 'no newline'`),
		"only a newline":          lines(`echo`),
		"a long line":             lines(`head -c 300000 /dev/zero | tr '\0' x`),
		"section markers":         lines(`printf '\033[0Ksection_start:1700000000:mine\r\033[0KMine\n'`, `echo inside`, `printf '\033[0Ksection_end:1700000000:mine\r\033[0K'`, `echo outside`),
		"without reading input":   lines(`cat; echo "cat ended with $?"`, `[ -t 0 ] && echo terminal || echo no terminal`),
		"from before and after":   lines(`echo one`, `sleep 2`, `echo two`),
		"from a background child": lines(`(for i in 1 2 3; do echo "child $i"; done) & wait`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, job{script: script})
		})
	}
}

// The shell executor mixes the two streams as it happens to read them; ours keeps
// the order in which they were written.
func TestBothStreams(t *testing.T) {
	t.Parallel()
	got := shared.run(t, job{script: lines(`for i in 1 2 3 4 5; do echo "out $i"; echo "err $i" >&2; done`)})
	assert.Equal(t, "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\nout 4\nerr 4\nout 5\nerr 5\n", commandless(output(got.log, "step_script")))
}

// A child that keeps the output open must not keep the job.
func TestBackgroundChildDoesNotHoldTheJob(t *testing.T) {
	t.Parallel()
	got := shared.run(t, job{script: lines(`sleep 600 &`, `echo done`)})
	assert.Equal(t, gitlab.StateSuccess, got.State)
	assert.Equal(t, "done\n", commandless(output(got.log, "step_script")))
}

func TestOutputWithTheRunnersTimestamps(t *testing.T) {
	t.Parallel()
	got := shared.run(t, job{script: lines(`echo one`, `printf 'two\rthree\n'`), timestamps: true})
	assert.Equal(t, gitlab.StateSuccess, got.State)
	assert.Regexp(t, `\d{4}-\d\d-\d\dT[0-9:.]+Z \d\dO one\n`, string(got.log))
}

// echoed is a command as the runner's script shows it.
func echoed(command string) string { return "\x1b[32;1m$ " + command + "\x1b[0;m\n" }

// commandless leaves out the commands that the runner's script echoes.
func commandless(text string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "\x1b[32;1m$ ") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}
