package iam

import (
	"fmt"
	"slices"
	"strings"
)

// condition is one key's test.
//
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
type condition struct {
	key      string
	values   []string
	test     func(want, got string, ctx Context) bool
	negated  bool
	ifExists bool
	set      string // "", "ForAnyValue" or "ForAllValues"
	null     bool   // tests whether the key is there at all
}

// comparisons are the operators less "Not", "IfExists" and the set's prefix.
var comparisons = map[string]func(want, got string, ctx Context) bool{
	"StringEquals": func(want, got string, ctx Context) bool {
		list, ok := expand(want, ctx)
		return ok && equal(list, got)
	},
	"StringEqualsIgnoreCase": func(want, got string, ctx Context) bool {
		list, ok := expand(strings.ToLower(want), ctx)
		return ok && equal(list, strings.ToLower(got))
	},
	"StringLike": func(want, got string, ctx Context) bool {
		list, ok := expand(want, ctx)
		return ok && match(list, []rune(got))
	},
	"Bool": func(want, got string, _ Context) bool { return strings.EqualFold(want, got) },
}

// equal compares text without wildcards.
func equal(list []token, s string) bool {
	for i := range list {
		if list[i].wild != 0 {
			list[i] = token{char: list[i].wild}
		}
	}
	return match(list, []rune(s))
}

func newCondition(operator, key string, values []string) (condition, error) {
	c := condition{key: key, values: values}
	name := operator
	if set, rest, ok := strings.Cut(name, ":"); ok {
		if set != "ForAnyValue" && set != "ForAllValues" {
			return c, fmt.Errorf("condition operator %q is not known here", operator)
		}
		c.set, name = set, rest
	}
	name, c.ifExists = strings.CutSuffix(name, "IfExists")
	if name == "Null" {
		c.null = true
		return c, nil
	}
	for _, kind := range []string{"String", "Arn"} {
		if rest, ok := strings.CutPrefix(name, kind+"Not"); ok {
			name, c.negated = kind+rest, true
		}
	}
	if name == "ArnEquals" || name == "ArnLike" { // both match wildcards
		name = "StringLike"
	}
	if c.test = comparisons[name]; c.test == nil {
		return c, fmt.Errorf("condition operator %q is not known here", operator)
	}
	return c, nil
}

func (c condition) holds(ctx Context) bool {
	got := ctx.get(c.key)
	if c.null {
		return slices.ContainsFunc(c.values, func(want string) bool { return strings.EqualFold(want, fmt.Sprint(len(got) == 0)) })
	}
	if len(got) == 0 {
		// A missing key fails a test, but for a negated one.
		return c.ifExists || c.negated && c.set != "ForAnyValue" || c.set == "ForAllValues"
	}
	one := func(value string) bool {
		return slices.ContainsFunc(c.values, func(want string) bool { return c.test(want, value, ctx) }) != c.negated
	}
	if c.set == "ForAnyValue" {
		return slices.ContainsFunc(got, one)
	}
	return !slices.ContainsFunc(got, func(v string) bool { return !one(v) })
}
