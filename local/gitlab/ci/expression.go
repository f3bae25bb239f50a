package ci

import (
	"fmt"
	"regexp"
	"strings"
)

// expression is a parsed rules:if.
type expression interface {
	// eval gives a string, a *regexp.Regexp, a bool, or nil for null.
	eval(lookup func(name string) (string, bool)) (any, error)
}

// evaluate parses and evaluates a rules:if.
func evaluate(text string, lookup func(string) (string, bool)) (bool, error) {
	parsed, err := parseExpression(text)
	if err != nil {
		return false, err
	}
	value, err := parsed.eval(lookup)
	return truthy(value), err
}

func truthy(value any) bool {
	switch v := value.(type) {
	case bool:
		return v
	case string:
		return strings.TrimSpace(v) != ""
	default:
		return v != nil
	}
}

type (
	variableExpression string
	literal            struct{ value any }
	binary             struct {
		operator    string
		left, right expression
	}
)

func (v variableExpression) eval(lookup func(string) (string, bool)) (any, error) {
	if value, ok := lookup(string(v)); ok {
		return value, nil
	}
	return nil, nil // null is a value of the language
}

func (l literal) eval(func(string) (string, bool)) (any, error) { return l.value, nil }

func (b binary) eval(lookup func(string) (string, bool)) (any, error) {
	left, err := b.left.eval(lookup)
	if err != nil {
		return nil, err
	}
	switch {
	case b.operator == "&&" && !truthy(left), b.operator == "||" && truthy(left):
		return left, nil
	}
	right, err := b.right.eval(lookup)
	if err != nil {
		return nil, err
	}
	switch b.operator {
	case "==":
		return left == right, nil
	case "!=":
		return left != right, nil
	case "=~", "!~":
		text, ok := left.(string)
		if !ok {
			return b.operator == "!~", nil
		}
		pattern, err := asPattern(right)
		if err != nil {
			return nil, err
		}
		return pattern.MatchString(text) == (b.operator == "=~"), nil
	default:
		return right, nil
	}
}

// asPattern takes a pattern, or a text (of a variable) that looks like one.
func asPattern(value any) (*regexp.Regexp, error) {
	switch v := value.(type) {
	case *regexp.Regexp:
		return v, nil
	case string:
		if m := wholePattern.FindStringSubmatch(v); m != nil {
			return compilePattern(m[1], m[2])
		}
		return nil, fmt.Errorf("%q is no /regular expression/", v)
	default:
		return nil, fmt.Errorf("the right side of =~ is no /regular expression/")
	}
}

var wholePattern = regexp.MustCompile(`^/(.+)/([ismU]*)$`)

func compilePattern(text, flags string) (*regexp.Regexp, error) {
	text = strings.ReplaceAll(text, `\/`, "/")
	if flags != "" {
		text = "(?" + flags + ")" + text
	}
	compiled, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("/%s/ is no regular expression (RE2): %w", text, err)
	}
	return compiled, nil
}

// tokens are those of GitLab's own lexer (Gitlab::Ci::Pipeline::Expression).
var tokens = regexp.MustCompile(`^\s*(?:` +
	`(?P<op>==|!=|=~|!~|&&|\|\||\(|\))|` +
	`\$(?P<var>[a-zA-Z_][a-zA-Z0-9_]*)|` +
	`"(?P<dq>[^"]*)"|'(?P<sq>[^']*)'|` +
	`/(?P<re>(?:\\/|[^/])+)/(?P<flags>[ismU]*)|` +
	`(?P<null>null)\b)`)

type token struct {
	operator string
	operand  expression
}

func lex(text string) ([]token, error) {
	var found []token
	rest := text
	for strings.TrimSpace(rest) != "" {
		m := tokens.FindStringSubmatchIndex(rest)
		if m == nil {
			return nil, fmt.Errorf("%q cannot be read from %q on", text, strings.TrimSpace(rest))
		}
		group := func(name string) (string, bool) {
			i := tokens.SubexpIndex(name)
			if m[2*i] < 0 {
				return "", false
			}
			return rest[m[2*i]:m[2*i+1]], true
		}
		var t token
		if v, ok := group("op"); ok {
			t.operator = v
		} else if v, ok := group("var"); ok {
			t.operand = variableExpression(v)
		} else if v, ok := group("dq"); ok {
			t.operand = literal{v}
		} else if v, ok := group("sq"); ok {
			t.operand = literal{v}
		} else if v, ok := group("re"); ok {
			flags, _ := group("flags")
			pattern, err := compilePattern(v, flags)
			if err != nil {
				return nil, err
			}
			t.operand = literal{pattern}
		} else {
			t.operand = literal{nil}
		}
		found = append(found, t)
		rest = rest[m[1]:]
	}
	return found, nil
}

// precedence of the operators: comparisons bind tightest, || loosest.
var precedence = map[string]int{"||": 1, "&&": 2, "==": 3, "!=": 3, "=~": 3, "!~": 3}

type expressionParser struct {
	text   string
	tokens []token
}

func parseExpression(text string) (expression, error) {
	found, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &expressionParser{text: text, tokens: found}
	parsed, err := p.binary(1)
	if err == nil && len(p.tokens) > 0 {
		err = fmt.Errorf("%q: an operator is missing", text)
	}
	return parsed, err
}

func (p *expressionParser) binary(level int) (expression, error) {
	left, err := p.operand()
	if err != nil {
		return nil, err
	}
	for len(p.tokens) > 0 {
		operator := p.tokens[0].operator
		if precedence[operator] < level {
			return left, nil
		}
		p.tokens = p.tokens[1:]
		right, err := p.binary(precedence[operator] + 1)
		if err != nil {
			return nil, err
		}
		left = binary{operator, left, right}
	}
	return left, nil
}

func (p *expressionParser) operand() (expression, error) {
	if len(p.tokens) == 0 {
		return nil, fmt.Errorf("%q ends too early", p.text)
	}
	t := p.tokens[0]
	p.tokens = p.tokens[1:]
	switch {
	case t.operand != nil:
		return t.operand, nil
	case t.operator == "(":
		inner, err := p.binary(1)
		if err != nil {
			return nil, err
		}
		if len(p.tokens) == 0 || p.tokens[0].operator != ")" {
			return nil, fmt.Errorf("%q: a parenthesis is not closed", p.text)
		}
		p.tokens = p.tokens[1:]
		return inner, nil
	default:
		return nil, fmt.Errorf("%q: a value is missing before %s", p.text, t.operator)
	}
}
