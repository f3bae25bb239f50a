// Package suggest finds what somebody may have meant who mistyped a name.
package suggest

import (
	"fmt"
	"strings"

	"github.com/xrash/smetrics"
)

// separators are the ends of the words in a name.
const separators = "._"

// Closest returns the candidate that is fewest edits from name, or "" if none
// is near enough to be a typing mistake. Letter case is not an edit, and the
// words with which both begin do not make them alike. A name that was cut
// short is near the one candidate that it begins.
func Closest(name string, candidates []string) string {
	best, distance := "", 0
	begun := 0
	for _, c := range candidates {
		word, other := differing(strings.ToLower(name), strings.ToLower(c))
		d := smetrics.WagnerFischer(word, other, 1, 1, 1)
		if d <= limit(word) && (best == "" || d < distance) {
			best, distance = c, d
		}
	}
	if best != "" || len(name) < shortest {
		return best
	}
	for _, c := range candidates {
		if strings.HasPrefix(strings.ToLower(c), strings.ToLower(name)) {
			best, begun = c, begun+1
		}
	}
	if begun == 1 {
		return best
	}
	return ""
}

// shortest is the length of the shortest beginning that says what was meant.
const shortest = 3

// limit is how many edits of a word are a mistake of typing: two, or one in
// four letters, and less in the shortest words.
func limit(word string) int { return max(min(2, len(word)/2), len(word)/4) }

// differing cuts the words with which both names begin.
func differing(a, b string) (restA, restB string) {
	cut := 0
	for i := 0; i < min(len(a), len(b)) && a[i] == b[i]; i++ {
		if strings.IndexByte(separators, a[i]) >= 0 {
			cut = i + 1
		}
	}
	return a[cut:], b[cut:]
}

// Hint is ": did you mean X?" for an error text, or "".
func Hint(name string, candidates []string) string {
	if c := Closest(name, candidates); c != "" {
		return fmt.Sprintf(": did you mean %s?", c)
	}
	return ""
}
