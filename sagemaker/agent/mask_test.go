package agent

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMasker(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		secrets []string
		in      []string
		want    string
	}{
		"none":                    {nil, []string{"hello\n"}, "hello\n"},
		"a value":                 {[]string{"secret"}, []string{"a secret here\n"}, "a [MASKED] here\n"},
		"across writes":           {[]string{"secret"}, []string{"a se", "cr", "et here\n"}, "a [MASKED] here\n"},
		"twice":                   {[]string{"secret"}, []string{"secretsecret secret"}, "[MASKED] [MASKED]"},
		"at the end":              {[]string{"secret"}, []string{"secret"}, "[MASKED]"},
		"only the beginning":      {[]string{"secret"}, []string{"secre"}, "secre"},
		"overlapping":             {[]string{"abc", "bcd"}, []string{"xabcdx"}, "x[MASKED]x"},
		"one within another":      {[]string{"abcdef", "cd"}, []string{"abcdex abcdef"}, "ab[MASKED]ex [MASKED]"},
		"the longer wins":         {[]string{"abc", "abcdef"}, []string{"abcdef abcd"}, "[MASKED] [MASKED]d"},
		"several lines":           {[]string{"-----BEGIN\nline\n-----END"}, []string{"x-----BEGIN\nli", "ne\n-----ENDx"}, "x[MASKED]x"},
		"a token":                 {nil, []string{"glpat-abc_DEF-123 x"}, "[MASKED] x"},
		"a token across writes":   {nil, []string{"token=gl", "pat-a", "bc", "def\n"}, "token=[MASKED]\n"},
		"a prefix of the user's":  {[]string{}, []string{"mytok_123, glrt-x."}, "[MASKED], [MASKED]"},
		"empty values are no use": {[]string{""}, []string{"x"}, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			m := newMasker(&out, c.secrets, []string{"mytok_"})
			for _, s := range c.in {
				n, err := io.WriteString(m, s)
				require.NoError(t, err)
				require.Len(t, s, n)
			}
			m.Flush()
			assert.Equal(t, c.want, out.String())
		})
	}
}

// FuzzMasker cuts a stream anywhere: no secret may come out, whatever is no
// secret must, and the cuts must not matter.
func FuzzMasker(f *testing.F) {
	f.Add("secret one", "abc", "bcd", uint8(3))
	f.Add("aaabcdxxabc", "abc", "bcd", uint8(1))
	f.Add("glpat-abcabc", "abc", "t-a", uint8(2))
	f.Fuzz(func(t *testing.T, text, one, two string, step uint8) {
		if len(one) < 2 || len(two) < 2 || strings.Contains(masked, one) || strings.Contains(masked, two) {
			return
		}
		mask := func(step int) string {
			var out bytes.Buffer
			m := newMasker(&out, []string{one, two}, nil)
			for rest := text; rest != ""; {
				n := min(max(step, 1), len(rest))
				_, _ = io.WriteString(m, rest[:n])
				rest = rest[n:]
			}
			m.Flush()
			return out.String()
		}
		whole := mask(len(text) + 1)
		require.Equal(t, whole, mask(int(step)), "the cuts do not matter")
		rest := strings.ReplaceAll(whole, masked, "\x00")
		for _, s := range []string{one, two} {
			if !strings.Contains(s, "\x00") {
				require.NotContains(t, rest, s)
			}
		}
	})
}

func BenchmarkMasker(b *testing.B) {
	var secrets []string
	for n := range 20 {
		secrets = append(secrets, fmt.Sprintf("%c-secret-value-%d", 'a'+n, n))
	}
	m := newMasker(io.Discard, secrets, nil)
	line := bytes.Repeat([]byte("epoch 12 loss=0.123456 accuracy=0.987654 some more text\n"), 1000)
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		_, _ = m.Write(line)
	}
}
