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
	first [256][]secret        // by first byte, the longest first
	pairs [1 << 16 >> 6]uint64 // bitmap of the two first bytes of all secrets
	clean []byte               // what was decided about, for one write
	held  []byte               // may be the beginning of a secret
	until int                  // bytes of held that belong to a secret
	token bool                 // the masked run goes on as long as a token does
	open  bool                 // the last byte that went was masked
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
				m.addPair(t)
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

func (m *masker) addPair(s string) {
	for second := range 256 {
		if len(s) == 1 || s[1] == byte(second) {
			pair := int(s[0])<<8 | second
			m.pairs[pair>>6] |= 1 << (pair & 63)
		}
	}
}

// begins says whether a secret may begin at b[i]; at the last byte it may.
func (m *masker) begins(b []byte, i int) bool {
	if i+1 == len(b) {
		return m.first[b[i]] != nil
	}
	pair := int(b[i])<<8 | int(b[i+1])
	return m.pairs[pair>>6]&(1<<(pair&63)) != 0
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
	b, out := m.held, m.clean[:0]
	i := 0
	for i < len(b) {
		if i >= m.until && !m.token {
			// Nearly all bytes go this way.
			plain := i
			for i < len(b) && !m.begins(b, i) {
				i++
			}
			if i > plain {
				out = append(out, b[plain:i]...)
				m.open = false
				continue
			}
		}
		if m.find(b, i) && !final {
			break
		}
		covered := i < m.until
		if !covered && m.token {
			covered = tokenByte(b[i])
			m.token = covered
		}
		if !covered {
			out = append(out, b[i])
		} else if !m.open {
			out = append(out, masked...)
		}
		m.open = covered
		i++
	}
	m.held = append(m.held[:0], b[i:]...)
	m.until = max(0, m.until-i)
	if final {
		m.token, m.open, m.until = false, false, 0
	}
	if m.clean = out; len(out) > 0 {
		_, _ = m.out.Write(out)
	}
}

// find looks for secrets that begin at b[i], and says whether there may be one
// of which not all bytes have come.
func (m *masker) find(b []byte, i int) (wait bool) {
	for _, s := range m.first[b[i]] {
		switch compare(b[i:], s.text) {
		case full:
			if i+len(s.text) >= m.until {
				m.until = i + len(s.text)
				m.token = m.token || s.prefix
			}
		case partial:
			wait = true
		}
	}
	return wait
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
