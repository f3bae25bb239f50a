package ci

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Source is the files of the commit that the pipeline is for.
type Source interface {
	// ReadFile reads a file; its path is relative to the repository's root.
	ReadFile(path string) ([]byte, error)
	// Files lists all files' paths.
	Files() ([]string, error)
}

// Limits that GitLab has, too.
const (
	maxIncludes    = 150
	maxReferences  = 10
	maxExtends     = 11
	maxScriptDepth = 10
)

// Config is a configuration, whole: included, referenced and extended parts are
// in their places.
type Config struct {
	root     *node
	defaults *node
	stages   []string
	global   *node // variables
	workflow *node
	jobs     []pair
}

// globalKeywords are the words that are no job at the top level.
var globalKeywords = []string{
	"default", "include", "stages", "variables", "workflow",
	"image", "services", "before_script", "after_script", "cache",
}

// oldDefaults are the words that the top level takes as well as default:.
var oldDefaults = []string{"image", "services", "before_script", "after_script", "cache"}

// Load reads the configuration in file and checks all of it, hidden jobs
// (".name") excepted.
func Load(source Source, file string) (*Config, error) {
	l := loader{source: source}
	root, err := l.load(file, nil, nil)
	if err != nil {
		return nil, err
	}
	r := resolver{root: root}
	if root, err = r.references(root, 0); err != nil {
		return nil, err
	}
	r.root = root
	c := &Config{root: root, global: root.get("variables"), workflow: root.get("workflow")}
	if err := c.readGlobals(); err != nil {
		return nil, err
	}
	for _, p := range root.pairs {
		if slices.Contains(globalKeywords, p.key) || strings.HasPrefix(p.key, ".") {
			continue
		}
		if p.node.kind != mapping {
			return nil, &Error{File: p.file, Line: p.line, Job: p.key, Problem: "neither a keyword that the local pipeline knows nor a job: it must be a map with a script"}
		}
		if p.node, err = r.extends(p.key, p.node, nil); err != nil {
			return nil, err
		}
		if _, err := c.readJob(p.key, p.node); err != nil {
			return nil, err
		}
		c.jobs = append(c.jobs, p)
	}
	if len(c.jobs) == 0 {
		return nil, fmt.Errorf("%s: there is no job in it", file)
	}
	return c, nil
}

func (c *Config) readGlobals() error {
	c.stages = []string{"build", "test", "deploy"}
	if n := c.root.get("stages"); n != nil {
		stages, err := n.flatTexts()
		if err != nil {
			return in("stages", err)
		}
		c.stages = slices.DeleteFunc(stages, func(s string) bool { return s == ".pre" || s == ".post" })
	}
	c.stages = append(append([]string{".pre"}, c.stages...), ".post")

	c.defaults = &node{kind: mapping, file: c.root.file, line: 1}
	for _, p := range c.root.pairs {
		if slices.Contains(oldDefaults, p.key) {
			c.defaults.set(p)
		}
	}
	if d := c.root.get("default"); d != nil {
		if d.kind != mapping {
			return in("default", d.errorf("must be a map, it is %s", d.kind))
		}
		for _, p := range d.pairs {
			if !slices.Contains(defaultKeywords, p.key) {
				return in("default", &Error{File: p.file, Line: p.line, Keyword: p.key, Problem: unknownKeyword})
			}
			c.defaults.set(p)
		}
	}
	// The defaults are checked even when every job has its own.
	if _, err := c.readJob("", &node{kind: mapping, pairs: c.defaults.pairs, file: c.root.file, line: c.root.line}); err != nil {
		return in("default", err)
	}
	if c.global != nil {
		if _, err := readVariables(c.global, true); err != nil {
			return in("variables", err)
		}
	}
	if c.workflow != nil {
		if _, err := readWorkflow(c.workflow); err != nil {
			return in("workflow", err)
		}
	}
	return nil
}

type loader struct {
	source   Source
	files    []string
	included int
}

// inclusion is a file that an include: names, and where it does.
type inclusion struct {
	path string
	at   *node
}

// load reads a file with all that it includes. at is what includes it, if
// anything, and trail the files that led here.
func (l *loader) load(file string, at *node, trail []string) (*node, error) {
	if slices.Contains(trail, file) {
		return nil, fmt.Errorf("%s includes itself: %s", file, strings.Join(append(trail, file), " -> "))
	}
	data, err := l.source.ReadFile(file)
	if err != nil && at != nil {
		return nil, in("include", at.errorf("read %s: %v", file, err))
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	root, err := parse(file, data)
	if err != nil {
		return nil, err
	}
	includes := root.get("include")
	if includes == nil {
		return root, nil
	}
	paths, err := l.paths(includes)
	if err != nil {
		return nil, in("include", err)
	}
	base := &node{kind: mapping, file: file, line: 1}
	for _, included := range paths {
		if l.included++; l.included > maxIncludes {
			return nil, includes.errorf("more than %d files are included", maxIncludes)
		}
		other, err := l.load(included.path, included.at, append(trail, file))
		if err != nil {
			return nil, err
		}
		base = merge(base, other)
	}
	return merge(base, root), nil
}

// paths lists the files that an include: names.
func (l *loader) paths(n *node) ([]inclusion, error) {
	var paths []inclusion
	switch n.kind {
	case list:
		for _, item := range n.items {
			more, err := l.paths(item)
			if err != nil {
				return nil, err
			}
			paths = append(paths, more...)
		}
		return paths, nil
	case scalar:
		if strings.Contains(n.value, "://") {
			return nil, n.errorf("include:remote is not known to the local pipeline, only include:local")
		}
		return l.glob(n)
	case mapping:
		err := n.read(keywords{"local": func(local *node) (err error) {
			if local.kind != scalar {
				return local.errorf("must be a path")
			}
			paths, err = l.glob(local)
			return err
		}})
		return paths, err
	default:
		return nil, n.errorf("must be a path, a map or a list of them")
	}
}

func (l *loader) glob(n *node) ([]inclusion, error) {
	pattern := strings.TrimPrefix(path.Clean("/"+n.value), "/")
	if ext := path.Ext(pattern); ext != ".yml" && ext != ".yaml" {
		return nil, n.errorf("%q: an included file's name ends in .yml or .yaml", n.value)
	}
	if !strings.Contains(pattern, "*") {
		return []inclusion{{pattern, n}}, nil
	}
	if l.files == nil {
		files, err := l.source.Files()
		if err != nil {
			return nil, fmt.Errorf("list the repository's files: %w", err)
		}
		l.files = files
	}
	var matches []inclusion
	for _, file := range l.files {
		if ok, err := doublestar.Match(pattern, file); err != nil {
			return nil, n.errorf("%q is no pattern: %v", n.value, err)
		} else if ok {
			matches = append(matches, inclusion{file, n})
		}
	}
	if len(matches) == 0 {
		return nil, n.errorf("no file matches %q", n.value)
	}
	return matches, nil
}

type resolver struct {
	root *node
}

// references puts what !reference tags name into their places.
func (r *resolver) references(n *node, depth int) (*node, error) {
	switch n.kind {
	case reference:
		if depth >= maxReferences {
			return nil, n.errorf("!reference goes deeper than %d levels, or in a circle", maxReferences)
		}
		keys, err := (&node{kind: list, items: n.items, file: n.file, line: n.line}).texts()
		if err != nil || len(keys) == 0 {
			return nil, n.errorf("!reference takes a list of keys: [job, keyword]")
		}
		target := r.root
		for _, key := range keys {
			if target = target.get(key); target == nil {
				return nil, n.errorf("!reference [%s]: there is no %q", strings.Join(keys, ", "), key)
			}
		}
		return r.references(target, depth+1)
	case list:
		resolved := *n
		resolved.items = make([]*node, len(n.items))
		for i, item := range n.items {
			var err error
			if resolved.items[i], err = r.references(item, depth); err != nil {
				return nil, err
			}
		}
		return &resolved, nil
	case mapping:
		resolved := *n
		resolved.pairs = make([]pair, len(n.pairs))
		for i, p := range n.pairs {
			var err error
			if p.node, err = r.references(p.node, depth); err != nil {
				return nil, err
			}
			resolved.pairs[i] = p
		}
		return &resolved, nil
	default:
		return n, nil
	}
}

// extends merges the jobs that a job extends below it.
func (r *resolver) extends(name string, job *node, trail []string) (*node, error) {
	n := job.get("extends")
	if n == nil {
		return job, nil
	}
	fail := func(err *Error) error {
		err.Job, err.Keyword = name, "extends"
		return err
	}
	if slices.Contains(trail, name) {
		return nil, fail(n.errorf("goes in a circle: %s", strings.Join(append(trail, name), " -> ")))
	}
	if len(trail) >= maxExtends {
		return nil, fail(n.errorf("is nested deeper than %d levels", maxExtends))
	}
	bases, err := n.flatTexts()
	if err != nil {
		return nil, fail(n.errorf("must be a job's name or a list of names"))
	}
	var merged *node
	for _, base := range bases {
		below := r.root.get(base)
		if below == nil || below.kind != mapping || slices.Contains(globalKeywords, base) {
			return nil, fail(n.errorf("there is no job %q", base))
		}
		if below, err = r.extends(base, below, append(slices.Clone(trail), name)); err != nil {
			return nil, err
		}
		if merged == nil {
			merged = below
		} else {
			merged = merge(merged, below)
		}
	}
	own := *job
	own.pairs = slices.DeleteFunc(slices.Clone(job.pairs), func(p pair) bool { return p.key == "extends" })
	if merged == nil {
		return &own, nil
	}
	result := *merge(merged, &own)
	result.pairs = slices.DeleteFunc(slices.Clone(result.pairs), func(p pair) bool { return p.key == "extends" })
	return &result, nil
}
