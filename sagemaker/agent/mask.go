package agent

import (
	"io"
	"slices"
)

const masked = "[MASKED]"

// tokenPrefixes are those of GitLab's own tokens, which the runner masks
// without being told (common/buildlogger/internal/tokensanitizer).
var tokenPrefixes = []string{
	"glpat-", "gldt-", "glrt-", "glrtr-", "glcbt-", "glptt-", "glft-", "glimt-", "glagent-", "glsoat-", "glffct-", "GR1348941",
}

// masker copies a stream and replaces secrets, and what follows a token's
// prefix, wherever the stream is cut into writes. Every byte that belongs to any
// secret is masked, also where secrets overlap.
type masker struct {
	out   io.Writer
	first [256][]secret // by first byte, the longest first
	held  []byte        // may be the beginning of a secret
	until int           // bytes of held that belong to a secret
	token bool          // the masked run goes on as long as a token does
	open  bool          // the last byte that went was masked
}

type secret struct {
	text   string
	prefix bool
}

func newMasker(out io.Writer, values, prefixes []string) *masker {
	m := &masker{out: out}
	add := func(texts []string, prefix bool) {
		for _, t := range texts {
			if t != "" {
				m.first[t[0]] = append(m.first[t[0]], secret{t, prefix})
			}
		}
	}
	add(values, false)
	add(prefixes, true)
	add(tokenPrefixes, true)
	for i := range m.first {
		slices.SortFunc(m.first[i], func(a, b secret) int { return len(b.text) - len(a.text) })
	}
	return m
}

// Write implements io.Writer. What may be the beginning of a secret is held
// back until the next Write or Flush.
func (m *masker) Write(p []byte) (int, error) {
	m.held = append(m.held, p...)
	m.pass(false)
	return len(p), nil
}

// Flush lets go of what is held back: the stream ends here.
func (m *masker) Flush() { m.pass(true) }

// pass decides about as many bytes as can be decided about.
func (m *masker) pass(final bool) {
	var out []byte
	i := 0
	for ; i < len(m.held); i++ {
		wait := false
		for _, s := range m.first[m.held[i]] {
			switch compare(m.held[i:], s.text) {
			case full:
				if i+len(s.text) >= m.until {
					m.until = i + len(s.text)
					m.token = m.token || s.prefix
				}
			case partial:
				wait = true
			}
		}
		if wait && !final {
			break
		}
		covered := i < m.until
		if !covered && m.token {
			covered = tokenByte(m.held[i])
			m.token = covered
		}
		switch {
		case !covered:
			out = append(out, m.held[i])
		case !m.open:
			out = append(out, masked...)
		}
		m.open = covered
	}
	m.held = append(m.held[:0], m.held[i:]...)
	m.until = max(0, m.until-i)
	if final {
		m.token, m.open, m.until = false, false, 0
	}
	_, _ = m.out.Write(out)
}

type matched int

const (
	none matched = iota
	partial
	full
)

// compare looks whether b begins with s, as far as there are bytes.
func compare(b []byte, s string) matched {
	if len(b) >= len(s) {
		if string(b[:len(s)]) == s {
			return full
		}
		return none
	}
	if string(b) == s[:len(b)] {
		return partial
	}
	return none
}

// tokenByte says whether a token may hold c.
func tokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '-' || c == '_' || c == '.' || c == '='
}
