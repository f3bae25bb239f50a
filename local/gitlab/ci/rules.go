package ci

import (
	"fmt"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// rule is an entry of rules: or workflow:rules:.
type rule struct {
	node         *node
	condition    string
	hasCondition bool
	when         string
	allowFailure *allowFailure
	variables    []gitlab.Variable
}

// readRules reads a list of rules; !reference may have put lists into it.
func readRules(n *node, workflow bool) ([]rule, error) {
	if n.kind != list {
		return nil, n.errorf("must be a list of rules, it is %s", n.kind)
	}
	rules := []rule{}
	for _, item := range n.items {
		if item.kind == list {
			inner, err := readRules(item, workflow)
			if err != nil {
				return nil, err
			}
			rules = append(rules, inner...)
			continue
		}
		r, err := readRule(item, workflow)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func readRule(n *node, workflow bool) (rule, error) {
	r := rule{node: n}
	words := []string{"on_success", "on_failure", "always", "manual", "never"}
	if workflow {
		words = []string{"always", "never"}
	}
	known := keywords{
		"if": func(n *node) (err error) {
			if r.condition, err = n.text(); err != nil {
				return err
			}
			r.hasCondition = true
			if _, err = parseExpression(r.condition); err != nil {
				return n.errorf("%v", err)
			}
			return nil
		},
		"when": func(n *node) (err error) {
			r.when, err = n.oneOf(words...)
			return err
		},
		"variables": func(n *node) (err error) {
			r.variables, err = readVariables(n, false)
			return err
		},
	}
	if workflow {
		known["auto_cancel"] = ignored // there is no other pipeline to cancel
	} else {
		known["allow_failure"] = func(n *node) error {
			value, err := readAllowFailure(n)
			r.allowFailure = &value
			return err
		}
		known["interruptible"] = ignored
	}
	return r, n.read(known)
}

// firstMatch finds the first rule whose if holds.
func firstMatch(rules []rule, variables []gitlab.Variable) (*rule, error) {
	lookup := lookupIn(expandAll(variables))
	for i := range rules {
		if !rules[i].hasCondition {
			return &rules[i], nil
		}
		ok, err := evaluate(rules[i].condition, lookup)
		if err != nil {
			return nil, in("rules:if", rules[i].node.errorf("%v", err))
		}
		if ok {
			return &rules[i], nil
		}
	}
	return nil, nil
}

type workflow struct {
	name  string
	rules []rule // nil: none given
}

func readWorkflow(n *node) (workflow, error) {
	var w workflow
	err := n.read(keywords{
		"name": into(&w.name, (*node).text),
		"rules": func(n *node) (err error) {
			w.rules, err = readRules(n, true)
			return err
		},
		"auto_cancel": ignored,
	})
	return w, err
}

// ErrNoPipeline says that workflow:rules do not want a pipeline.
type ErrNoPipeline struct{ Reason string }

func (e *ErrNoPipeline) Error() string {
	return fmt.Sprintf("there is no pipeline: %s", e.Reason)
}

// allowFailure is allow_failure: yes, no, or for some exit codes.
type allowFailure struct {
	any       bool
	exitCodes []int
}

func readAllowFailure(n *node) (allowFailure, error) {
	var a allowFailure
	if n.kind != mapping {
		var err error
		a.any, err = n.boolean()
		return a, err
	}
	return a, n.read(keywords{"exit_codes": into(&a.exitCodes, readExitCodes)})
}

func readExitCodes(n *node) ([]int, error) {
	items := []*node{n}
	if n.kind == list {
		items = n.items
	}
	var codes []int
	for _, item := range items {
		code, err := item.integer()
		if err != nil {
			return nil, err
		}
		codes = append(codes, code)
	}
	return codes, nil
}
