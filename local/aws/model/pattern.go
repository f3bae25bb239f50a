package model

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/dlclark/regexp2"
)

// matchLimit bounds a pattern that backtracks; one that takes longer counts as
// matched, since AWS would have matched it in time.
const matchLimit = 2 * time.Second

// compiled caches patterns.
var compiled sync.Map // string → func(string) bool

// matches says whether the whole of s matches a pattern in Java's syntax. A
// pattern that cannot be read matches everything; a test sees that there is
// none.
func matches(pattern, s string) bool {
	f, ok := compiled.Load(pattern)
	if !ok {
		match, err := compile(pattern)
		if err != nil {
			match = func(string) bool { return true }
		}
		f, _ = compiled.LoadOrStore(pattern, match)
	}
	return f.(func(string) bool)(s)
}

// java translates what Java writes otherwise.
var java = strings.NewReplacer(
	`\p{Alnum}`, `a-zA-Z0-9`, // the models use it within brackets only
	`\p{Alpha}`, `a-zA-Z`,
	`\uD800\uDC00-\uDBFF\uDFFF`, `\x{10000}-\x{10FFFF}`, // Java's characters are UTF-16 units
)

var codeUnit = regexp.MustCompile(`\\u([0-9A-Fa-f]{4})`)

// compile makes a pattern of Java's a matcher. Go's own engine, which takes
// linear time, does most; look-around and long repetitions take the other.
func compile(pattern string) (func(string) bool, error) {
	whole := `\A(?:` + codeUnit.ReplaceAllString(java.Replace(pattern), `\x{$1}`) + `)\z`
	if re, err := regexp.Compile(whole); err == nil {
		return re.MatchString, nil
	}
	re, err := regexp2.Compile(whole, regexp2.None)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	re.MatchTimeout = matchLimit
	return func(s string) bool {
		ok, err := re.MatchString(s)
		return ok || err != nil
	}, nil
}
