package iam

import "strings"

// Match says whether s matches a pattern in which * stands for any text, slashes
// included, and ? for one character.
func Match(pattern, s string) bool {
	return match(tokens(pattern), []rune(s))
}

// token is a character of a pattern, or a wildcard.
type token struct {
	char rune
	wild rune // '*', '?' or 0
}

func tokens(pattern string) []token {
	var list []token
	for _, r := range pattern {
		if r == '*' || r == '?' {
			list = append(list, token{wild: r})
		} else {
			list = append(list, token{char: r})
		}
	}
	return list
}

func literal(s string) []token {
	var list []token
	for _, r := range s {
		list = append(list, token{char: r})
	}
	return list
}

func match(p []token, t []rune) bool {
	star, mark := -1, 0
	i, j := 0, 0
	for j < len(t) {
		switch {
		case i < len(p) && p[i].wild == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i].wild == '?' || p[i].wild == 0 && p[i].char == t[j]):
			i++
			j++
		case star >= 0: // let the last * take one more
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i].wild == '*' {
		i++
	}
	return i == len(p)
}

// expand makes a pattern's policy variables the context's values, whose * and ?
// stand for themselves. ok is false when the context lacks one.
//
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
func expand(pattern string, ctx Context) (list []token, ok bool) {
	for {
		before, rest, found := strings.Cut(pattern, "${")
		list = append(list, tokens(before)...)
		if !found {
			return list, true
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, false
		}
		pattern = after
		if name == "*" || name == "?" || name == "$" {
			list = append(list, token{char: rune(name[0])})
			continue
		}
		name, fallback, hasFallback := strings.Cut(name, ",")
		values := ctx.get(strings.TrimSpace(name))
		switch {
		case len(values) == 1:
			list = append(list, literal(values[0])...)
		case hasFallback:
			list = append(list, literal(strings.Trim(strings.TrimSpace(fallback), "'"))...)
		default:
			return nil, false
		}
	}
}
