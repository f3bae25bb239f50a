package ci

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Error is a mistake in the configuration.
type Error struct {
	File    string
	Line    int
	Job     string // empty outside of jobs
	Keyword string // the path of keywords, "artifacts:paths"; may be empty
	Problem string
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d: ", e.File, e.Line)
	if e.Job != "" {
		fmt.Fprintf(&b, "job %s: ", e.Job)
	}
	if e.Keyword != "" {
		fmt.Fprintf(&b, "%s: ", e.Keyword)
	}
	return b.String() + e.Problem
}

type kind int

const (
	scalar kind = iota
	null
	list
	mapping
	reference // !reference [job, keyword, ...]
)

func (k kind) String() string {
	return [...]string{"a value", "nothing", "a list", "a map", "a !reference"}[k]
}

// node is a piece of the configuration that knows where it stands.
type node struct {
	kind  kind
	value string // of a scalar
	tag   string // of a scalar: !!str, !!int, !!bool, ...
	items []*node
	pairs []pair
	file  string
	line  int
}

type pair struct {
	key  string
	line int // of the key
	file string
	node *node
}

// maxNodes bounds what aliases can blow a file up to.
const maxNodes = 200_000

func (n *node) get(key string) *node {
	if n == nil || n.kind != mapping {
		return nil
	}
	for _, p := range n.pairs {
		if p.key == key {
			return p.node
		}
	}
	return nil
}

func (n *node) set(p pair) {
	for i := range n.pairs {
		if n.pairs[i].key == p.key {
			n.pairs[i] = p
			return
		}
	}
	n.pairs = append(n.pairs, p)
}

func (n *node) errorf(format string, args ...any) *Error {
	return &Error{File: n.file, Line: n.line, Problem: fmt.Sprintf(format, args...)}
}

// in adds the keyword (in front of those already there) to a mistake.
func in(keyword string, err error) error {
	var mistake *Error
	if errors.As(err, &mistake) {
		if mistake.Keyword != "" {
			keyword += ":" + mistake.Keyword
		}
		mistake.Keyword = keyword
	}
	return err
}

// merge lays over on top of base as GitLab does: maps are merged, everything
// else is replaced.
func merge(base, over *node) *node {
	if base == nil || base.kind != mapping || over.kind != mapping {
		return over
	}
	merged := &node{kind: mapping, file: over.file, line: over.line, pairs: slices.Clone(base.pairs)}
	for _, p := range over.pairs {
		if below := merged.get(p.key); below != nil {
			p.node = merge(below, p.node)
		}
		merged.set(p)
	}
	return merged
}

// parse reads one YAML file.
func parse(file string, data []byte) (*node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return &node{kind: mapping, file: file, line: 1}, nil
	} else if err != nil {
		return nil, fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	c := converter{file: file}
	root, err := c.convert(document.Content[0], 0)
	if err != nil {
		return nil, err
	}
	var second yaml.Node
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		line := 1
		if len(second.Content) > 0 {
			line = second.Content[0].Line
		}
		return nil, &Error{File: file, Line: line, Problem: "a second YAML document (spec: inputs) is not supported by the local pipeline"}
	}
	if root.kind == null {
		root.kind = mapping
	}
	if root.kind != mapping {
		return nil, root.errorf("the file must be a map of jobs and keywords, it is %s", root.kind)
	}
	return root, nil
}

type converter struct {
	file  string
	nodes int
}

func (c *converter) convert(y *yaml.Node, depth int) (*node, error) {
	n := &node{file: c.file, line: y.Line}
	if c.nodes++; c.nodes > maxNodes || depth > 100 {
		return nil, n.errorf("the file is too large or too deep once its aliases are resolved")
	}
	switch y.Kind {
	case yaml.AliasNode:
		return c.convert(y.Alias, depth+1)
	case yaml.SequenceNode:
		n.kind = list
		if y.Tag == "!reference" {
			n.kind = reference
		} else if y.Tag != "!!seq" {
			return nil, n.errorf("the YAML tag %s is not known", y.Tag)
		}
		for _, item := range y.Content {
			converted, err := c.convert(item, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, converted)
		}
	case yaml.MappingNode:
		if y.Tag != "!!map" {
			return nil, n.errorf("the YAML tag %s is not known", y.Tag)
		}
		return n, c.convertMap(n, y, depth)
	default:
		n.value, n.tag = y.Value, y.ShortTag()
		switch n.tag {
		case "!!null":
			n.kind = null
		case "!!str", "!!int", "!!float", "!!bool", "!!timestamp", "!!merge":
		default:
			return nil, n.errorf("the YAML tag %s is not known", n.tag)
		}
		// GitLab reads YAML 1.1, where these are truth values.
		if n.tag == "!!str" && y.Style == 0 {
			switch strings.ToLower(n.value) {
			case "yes", "on":
				n.value, n.tag = "true", "!!bool"
			case "no", "off":
				n.value, n.tag = "false", "!!bool"
			}
		}
		if n.tag == "!!bool" {
			n.value = strings.ToLower(n.value)
		}
	}
	return n, nil
}

// convertMap resolves merge keys (<<) as well: a map's own keys win, and of
// several merged maps the first.
func (c *converter) convertMap(n *node, y *yaml.Node, depth int) error {
	n.kind = mapping
	var merged []*node
	seen := map[string]bool{}
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		converted, err := c.convert(value, depth+1)
		if err != nil {
			return err
		}
		if key.ShortTag() == "!!merge" {
			if converted.kind == list {
				merged = append(merged, converted.items...)
			} else {
				merged = append(merged, converted)
			}
			continue
		}
		if key.Kind != yaml.ScalarNode {
			return (&node{file: c.file, line: key.Line}).errorf("a key must be a plain word")
		}
		if seen[key.Value] {
			return (&node{file: c.file, line: key.Line}).errorf("the key %q is there twice", key.Value)
		}
		seen[key.Value] = true
		n.pairs = append(n.pairs, pair{key: key.Value, line: key.Line, file: c.file, node: converted})
	}
	for _, base := range merged {
		if base.kind != mapping {
			return base.errorf("<< merges maps, this is %s", base.kind)
		}
		for _, p := range base.pairs {
			if !seen[p.key] {
				seen[p.key] = true
				n.pairs = append(n.pairs, p)
			}
		}
	}
	return nil
}

// text is a scalar's text.
func (n *node) text() (string, error) {
	if n.kind != scalar {
		return "", n.errorf("must be a text, it is %s", n.kind)
	}
	return n.value, nil
}

func (n *node) boolean() (bool, error) {
	if n.kind != scalar || n.tag != "!!bool" {
		return false, n.errorf("must be true or false")
	}
	return n.value == "true", nil
}

func (n *node) integer() (int, error) {
	var i int
	if n.kind != scalar || n.tag != "!!int" {
		return 0, n.errorf("must be a whole number")
	}
	if _, err := fmt.Sscanf(n.value, "%d", &i); err != nil {
		return 0, n.errorf("must be a whole number")
	}
	return i, nil
}

// texts is a list of texts.
func (n *node) texts() ([]string, error) {
	if n.kind != list {
		return nil, n.errorf("must be a list of texts, it is %s", n.kind)
	}
	texts := make([]string, 0, len(n.items))
	for _, item := range n.items {
		text, err := item.text()
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// flatTexts is a text or a list of texts and lists, however deep (scripts:
// !reference puts lists into lists).
func (n *node) flatTexts() ([]string, error) {
	if n.kind == scalar {
		return []string{n.value}, nil
	}
	if n.kind != list {
		return nil, n.errorf("must be a text or a list of texts, it is %s", n.kind)
	}
	var texts []string
	for _, item := range n.items {
		inner, err := item.flatTexts()
		if err != nil {
			return nil, err
		}
		texts = append(texts, inner...)
	}
	return texts, nil
}

// oneOf is a text that must be one of the words.
func (n *node) oneOf(words ...string) (string, error) {
	text, err := n.text()
	if err == nil && !slices.Contains(words, text) {
		return "", n.errorf("is %q, allowed is %s", text, strings.Join(words, ", "))
	}
	return text, err
}

// keywords is what may stand in a map: what to do with each key.
type keywords map[string]func(*node) error

// read applies the keywords to a map. What is not among them is an error.
func (n *node) read(known keywords) error {
	if n.kind != mapping {
		return n.errorf("must be a map, it is %s", n.kind)
	}
	for _, p := range n.pairs {
		apply, ok := known[p.key]
		if !ok {
			return &Error{File: p.file, Line: p.line, Keyword: p.key, Problem: unknownKeyword}
		}
		if err := apply(p.node); err != nil {
			return in(p.key, err)
		}
	}
	return nil
}

const unknownKeyword = "this keyword is not known to the local pipeline"

// into makes a keyword's action of a reader and a place for what it reads.
func into[T any](place *T, reader func(*node) (T, error)) func(*node) error {
	return func(n *node) (err error) {
		value, err := reader(n)
		if err == nil {
			*place = value
		}
		return err
	}
}

// ignored is for keywords that change nothing that a local pipeline could show.
func ignored(*node) error { return nil }
