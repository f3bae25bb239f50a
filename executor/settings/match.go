package settings

import (
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// separator takes the slash's place while matching: in instance types, ARNs,
// images and S3 URIs a "*" stands for everything, slashes included.
const separator = "\x01"

// Match says whether one of the globs matches text. "*" crosses slashes.
func Match(globs []string, text string) bool {
	text = strings.ReplaceAll(text, "/", separator)
	for _, g := range globs {
		if ok, err := doublestar.Match(strings.ReplaceAll(g, "/", separator), text); err == nil && ok {
			return true
		}
	}
	return false
}
