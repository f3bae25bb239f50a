// Package lazyregexp compiles regular expressions when they are first used: a
// stage is a process of its own, and needs few of them.
package lazyregexp

import (
	"regexp"
	"sync"
)

// New returns what returns the compiled expression, and panics if it is none.
func New(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
