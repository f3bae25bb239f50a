package ci

import (
	"fmt"
	"strings"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// need is an entry of needs:.
type need struct {
	node      *node
	job       string
	artifacts bool
	optional  bool
	instances []instance // needs:parallel:matrix
}

func readNeeds(n *node) ([]need, error) {
	if n.kind != list {
		return nil, n.errorf("must be a list of jobs, it is %s", n.kind)
	}
	needs := []need{}
	for _, item := range n.items {
		switch item.kind {
		case list: // of a !reference
			inner, err := readNeeds(item)
			if err != nil {
				return nil, err
			}
			needs = append(needs, inner...)
		case scalar:
			needs = append(needs, need{node: item, job: item.value, artifacts: true})
		default:
			one := need{node: item, artifacts: true}
			if err := item.read(keywords{
				"job":       into(&one.job, (*node).text),
				"artifacts": into(&one.artifacts, (*node).boolean),
				"optional":  into(&one.optional, (*node).boolean),
				"parallel":  into(&one.instances, readParallel),
			}); err != nil {
				return nil, err
			}
			if one.job == "" {
				return nil, item.errorf("a need names a job")
			}
			needs = append(needs, one)
		}
	}
	return needs, nil
}

// instance is one of the jobs that parallel: makes of a job.
type instance struct {
	suffix    string // "1/3", "[a, b]"
	variables []gitlab.Variable
}

// maxParallel is GitLab's limit for parallel.
const maxParallel = 200

func readParallel(n *node) ([]instance, error) {
	var instances []instance
	if n.kind == mapping {
		if err := n.read(keywords{"matrix": into(&instances, readMatrix)}); err != nil {
			return nil, err
		}
		return instances, nil
	}
	count, err := n.integer()
	if err != nil {
		return nil, err
	}
	if count < 1 || count > maxParallel {
		return nil, n.errorf("is %d, allowed is 1 to %d", count, maxParallel)
	}
	for i := range count {
		instances = append(instances, instance{suffix: fmt.Sprintf("%d/%d", i+1, count)})
	}
	return instances, nil
}

// readMatrix makes a job of each combination; the first variable changes most
// slowly.
func readMatrix(n *node) ([]instance, error) {
	if n.kind != list {
		return nil, n.errorf("must be a list of maps, it is %s", n.kind)
	}
	if len(n.items) == 0 {
		return nil, n.errorf("must have at least one map of variables")
	}
	var all []instance
	for _, item := range n.items {
		if item.kind != mapping {
			return nil, item.errorf("must be a map of variables, it is %s", item.kind)
		}
		combinations := []instance{{}}
		for _, p := range item.pairs {
			values, err := p.node.flatTexts()
			if err != nil || len(values) == 0 {
				return nil, in(p.key, p.node.errorf("must be a value or a list of values"))
			}
			var longer []instance
			for _, combination := range combinations {
				for _, value := range values {
					variables := append(combination.variables[:len(combination.variables):len(combination.variables)],
						gitlab.Variable{Key: p.key, Value: value, Public: true})
					longer = append(longer, instance{variables: variables})
				}
			}
			if combinations = longer; len(combinations) > maxParallel {
				break
			}
		}
		all = append(all, combinations...)
		if len(all) > maxParallel {
			return nil, n.errorf("makes more than %d jobs", maxParallel)
		}
	}
	for i := range all {
		var values []string
		for _, variable := range all[i].variables {
			values = append(values, variable.Value)
		}
		all[i].suffix = "[" + strings.Join(values, ", ") + "]"
	}
	return all, nil
}

// instanceName is the name that GitLab gives to one of several parallel jobs.
func instanceName(job string, i instance) string {
	if strings.HasPrefix(i.suffix, "[") {
		return job + ": " + i.suffix
	}
	return job + " " + i.suffix
}
