package pipeline

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestJobLog(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		color bool
		parts []string // as they come
		want  string
	}{
		"lines across parts":         {parts: []string{"on", "e\ntw", "o\n"}, want: "j | one\nj | two\n"},
		"no final newline":           {parts: []string{"one"}, want: "j | one\n"},
		"empty lines stay":           {parts: []string{"a\n\nb\n"}, want: "j | a\nj | \nj | b\n"},
		"a section's start":          {parts: []string{"section_start:17:get_sources[collapsed=true]\r\x1b[0K\x1b[0K\x1b[36;1mGetting\x1b[0;m\n"}, want: "j | Getting\n"},
		"a section's end alone":      {parts: []string{"section_end:17:get_sources\r\x1b[0K\n"}, want: ""},
		"end and start in one line":  {parts: []string{"section_end:1:a\r\x1b[0Ksection_start:1:b\r\x1b[0KNext\n"}, want: "j | Next\n"},
		"a user's text like a mark":  {parts: []string{"section_start: of my talk\n"}, want: "j | section_start: of my talk\n"},
		"a progress bar":             {parts: []string{"10%\r50%\r", "100%\n"}, want: "j | 100%\n"},
		"a Windows line":             {parts: []string{"text\r\n"}, want: "j | text\n"},
		"colours go without a tty":   {parts: []string{"\x1b[31mred\x1b[0m\n"}, want: "j | red\n"},
		"colours stay on a terminal": {color: true, parts: []string{"\x1b[31mred\x1b[0m\n"}, want: "\x1b[36mj | \x1b[0m\x1b[31mred\x1b[0m\n"},
		"an endless line is broken":  {parts: []string{strings.Repeat("x", maxLine+1), "y\n"}, want: "j | " + strings.Repeat("x", maxLine+1) + "\nj | y\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			log := newJobLog(&printer{out: &out, color: c.color}, "j", 1, 0)
			for _, part := range c.parts {
				_, _ = log.Write([]byte(part))
			}
			log.Close()
			assert.Equal(t, c.want, out.String())
		})
	}
}

func TestASingleJobHasNoPrefix(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := newJobLog(&printer{out: &out}, "j", 0, 0)
	_, _ = log.Write([]byte("text\n"))
	assert.Equal(t, "text\n", out.String())
}
