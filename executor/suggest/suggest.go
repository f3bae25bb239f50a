// Package suggest finds what somebody may have meant who mistyped a name.
package suggest

import (
	"fmt"
	"strings"

	"github.com/xrash/smetrics"
)

// Closest returns the candidate that is fewest edits from name, or "" if none
// is near enough to be a typing mistake. Letter case is not an edit.
func Closest(name string, candidates []string) string {
	best, distance := "", len(name)/3+2
	for _, c := range candidates {
		d := smetrics.WagnerFischer(strings.ToLower(name), strings.ToLower(c), 1, 1, 1)
		if d < distance {
			best, distance = c, d
		}
	}
	return best
}

// Hint is ": did you mean X?" for an error text, or "".
func Hint(name string, candidates []string) string {
	if c := Closest(name, candidates); c != "" {
		return fmt.Sprintf(": did you mean %s?", c)
	}
	return ""
}
