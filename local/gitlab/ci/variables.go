package ci

import (
	"regexp"
	"slices"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// readVariables reads variables:. Those at the top level may have more keys.
func readVariables(n *node, global bool) ([]gitlab.Variable, error) {
	if n.kind == null {
		return nil, nil
	}
	if n.kind != mapping {
		return nil, n.errorf("must be a map of names and values, it is %s", n.kind)
	}
	var variables []gitlab.Variable
	for _, p := range n.pairs {
		if !variableName.MatchString(p.key) {
			return nil, &Error{File: p.file, Line: p.line, Keyword: p.key, Problem: "is no name of a variable"}
		}
		variable := gitlab.Variable{Key: p.key, Public: true}
		if err := readVariable(p.node, &variable, global); err != nil {
			return nil, in(p.key, err)
		}
		variables = append(variables, variable)
	}
	return variables, nil
}

var variableName = regexp.MustCompile(`^[a-zA-Z0-9_]+$`)

func readVariable(n *node, variable *gitlab.Variable, global bool) (err error) {
	if n.kind != mapping {
		variable.Value, err = n.text()
		return err
	}
	expand, options := true, []string(nil)
	known := keywords{
		"value":  into(&variable.Value, (*node).text),
		"expand": into(&expand, (*node).boolean),
	}
	if global {
		known["description"] = ignored // shown where a pipeline is started by hand
		known["options"] = into(&options, (*node).texts)
	}
	if err := n.read(known); err != nil {
		return err
	}
	if options != nil && !slices.Contains(options, variable.Value) {
		return n.errorf("the value %q is not among the options", variable.Value)
	}
	variable.Raw = !expand
	return nil
}

// overlay lays the later variables over the earlier; each key is there once, in
// the place where it first was.
func overlay(layers ...[]gitlab.Variable) []gitlab.Variable {
	var all []gitlab.Variable
	index := map[string]int{}
	for _, layer := range layers {
		for _, variable := range layer {
			if at, known := index[variable.Key]; known {
				all[at] = variable
				continue
			}
			index[variable.Key] = len(all)
			all = append(all, variable)
		}
	}
	return all
}

// variableReference is GitLab's Gitlab::Ci::Variables::Collection::Item
// VARIABLES_REGEXP: $$ and %% stand for themselves.
var variableReference = regexp.MustCompile(`\$\$|%%|\$([a-zA-Z_][a-zA-Z0-9_]*)|\$\{([a-zA-Z_][a-zA-Z0-9_]*)?\}|%([a-zA-Z_][a-zA-Z0-9_]*)%`)

// expandAll expands the references between variables, nested ones as well, as
// GitLab does before it sends a job: the runner itself does it only once. What
// refers to nothing, to a file or to a raw variable stays; so does a circle,
// and $$.
func expandAll(variables []gitlab.Variable) []gitlab.Variable {
	e := expander{variables: slices.Clone(variables), index: map[string]int{}, state: map[string]int{}}
	for i, variable := range variables {
		e.index[variable.Key] = i
	}
	for _, variable := range variables {
		e.expand(variable.Key)
	}
	if e.circle {
		return variables
	}
	return e.variables
}

type expander struct {
	variables []gitlab.Variable
	index     map[string]int
	state     map[string]int // 1: being expanded, 2: done
	circle    bool
}

func (e *expander) expand(key string) {
	if e.state[key] == 1 {
		e.circle = true // GitLab then sends all of them unexpanded
	}
	if e.state[key] != 0 {
		return
	}
	e.state[key] = 1
	if v := &e.variables[e.index[key]]; !v.Raw && !v.File {
		v.Value = expandText(v.Value, func(name string) (string, bool) {
			at, known := e.index[name]
			if !known || name == key || e.variables[at].File || e.variables[at].Raw {
				return "", false
			}
			e.expand(name)
			return e.variables[at].Value, true
		})
	}
	e.state[key] = 2
}

// expandText replaces the references that lookup knows.
func expandText(text string, lookup func(string) (string, bool)) string {
	return variableReference.ReplaceAllStringFunc(text, func(match string) string {
		groups := variableReference.FindStringSubmatch(match)
		for _, name := range groups[1:] {
			if name == "" {
				continue
			}
			if value, known := lookup(name); known {
				return value
			}
		}
		return match
	})
}

func lookupIn(variables []gitlab.Variable) func(string) (string, bool) {
	values := map[string]string{}
	for _, variable := range variables {
		values[variable.Key] = variable.Value
	}
	return func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
}
