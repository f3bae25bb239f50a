package ci

import (
	"errors"
	"slices"
	"strings"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// jobConfig is a job as its keywords say, before rules and parallel.
type jobConfig struct {
	name         string
	node         *node
	stage        string
	script       []string
	before       []string
	after        []string
	image        *gitlab.Image
	services     []gitlab.Image
	variables    []gitlab.Variable
	tags         []string
	artifacts    *artifacts
	caches       []cache
	needs        []need // nil: none given
	dependencies []string
	hasDepends   bool
	rules        []rule // nil: none given
	when         string
	allowFailure *allowFailure
	timeout      int // seconds; 0: the project's
	retry        Retry
	parallel     []instance // nil: one
	resource     string
	environment  []gitlab.Variable
	inherit      inherit
}

// defaultKeywords may stand under default:.
var defaultKeywords = []string{
	"after_script", "artifacts", "before_script", "cache", "image", "interruptible",
	"retry", "services", "tags", "timeout",
}

// onlyOnGitLab explains the keywords whose effect a local pipeline cannot have.
var onlyOnGitLab = map[string]string{
	"only":      "the local pipeline knows rules, not only",
	"except":    "the local pipeline knows rules, not except",
	"trigger":   "the local pipeline cannot start another pipeline",
	"release":   "the local pipeline has no releases",
	"secrets":   "the local pipeline has no secrets provider; use --variable",
	"id_tokens": "the local pipeline issues no ID tokens",
	"run":       "the local pipeline does not know steps (run), use script",
}

// readJob reads a job's keywords. An empty name is for default:. The result's
// rules are not yet applied.
func (c *Config) readJob(name string, n *node) (*jobConfig, error) {
	j := &jobConfig{name: name, node: n, stage: "test", when: "on_success"}
	if err := j.read(c, n); err != nil {
		var mistake *Error
		if errors.As(err, &mistake) {
			mistake.Job = name
			if why, known := onlyOnGitLab[mistake.Keyword]; known {
				mistake.Problem = why
			}
		}
		return nil, err
	}
	return j, nil
}

func (j *jobConfig) read(c *Config, n *node) error {
	if i := n.get("inherit"); i != nil {
		if err := j.inherit.read(i); err != nil {
			return in("inherit", err)
		}
	}
	// A keyword of the job's own replaces the default's.
	whole := *n
	whole.pairs = slices.Clone(n.pairs)
	for _, p := range c.defaults.pairs {
		if n.get(p.key) == nil && j.inherit.takesDefault(p.key) {
			whole.pairs = append(whole.pairs, p)
		}
	}
	if err := whole.read(j.keywords(c)); err != nil {
		return err
	}
	if j.name == "" {
		return nil // default:
	}
	if len(j.script) == 0 {
		return n.errorf("a job needs a script")
	}
	return nil
}

func (j *jobConfig) keywords(c *Config) keywords {
	known := keywords{
		"after_script":  into(&j.after, readScript),
		"artifacts":     into(&j.artifacts, readArtifacts),
		"before_script": into(&j.before, readScript),
		"cache":         into(&j.caches, readCaches),
		"image":         into(&j.image, readImage),
		"interruptible": ignored, // there is no newer pipeline that could interrupt
		"retry":         into(&j.retry, readRetry),
		"services":      into(&j.services, readServices),
		"tags":          into(&j.tags, (*node).flatTexts),
		"timeout":       into(&j.timeout, readDuration),
	}
	if j.name == "" {
		return known
	}
	for key, action := range (keywords{
		"stage": func(n *node) (err error) {
			if j.stage, err = n.text(); err == nil && !slices.Contains(c.stages, j.stage) {
				err = n.errorf("there is no stage %q; the stages are %s", j.stage, strings.Join(c.stages, ", "))
			}
			return err
		},
		"script": into(&j.script, readScript),
		"variables": func(n *node) (err error) {
			j.variables, err = readVariables(n, false)
			return err
		},
		"needs": into(&j.needs, readNeeds),
		"dependencies": func(n *node) (err error) {
			j.hasDepends = true
			j.dependencies, err = n.texts()
			return err
		},
		"rules": func(n *node) (err error) {
			j.rules, err = readRules(n, false)
			return err
		},
		"when": func(n *node) (err error) {
			j.when, err = n.oneOf("on_success", "on_failure", "always", "manual")
			return err
		},
		"allow_failure": func(n *node) error {
			value, err := readAllowFailure(n)
			j.allowFailure = &value
			return err
		},
		"parallel":       into(&j.parallel, readParallel),
		"resource_group": into(&j.resource, (*node).text),
		"environment":    into(&j.environment, readEnvironment),
		"inherit":        ignored, // read before
		"extends":        ignored, // merged before
	}) {
		known[key] = action
	}
	return known
}

func readScript(n *node) ([]string, error) {
	if n.kind == null {
		return nil, n.errorf("is empty")
	}
	return n.flatTexts()
}

// inherit is inherit:. What is not named is inherited.
type inherit struct {
	defaults  *[]string // nil: all
	variables *[]string
}

func (i *inherit) read(n *node) error {
	names := func(place **[]string) func(*node) error {
		return func(n *node) error {
			if n.kind == list {
				texts, err := n.texts()
				*place = &texts
				return err
			}
			all, err := n.boolean()
			if err == nil && !all {
				*place = &[]string{}
			}
			return err
		}
	}
	return n.read(keywords{"default": names(&i.defaults), "variables": names(&i.variables)})
}

func (i *inherit) takesDefault(key string) bool {
	return i.defaults == nil || slices.Contains(*i.defaults, key)
}

func (i *inherit) takesVariable(key string) bool {
	return i.variables == nil || slices.Contains(*i.variables, key)
}

func readImage(n *node) (*gitlab.Image, error) {
	image := &gitlab.Image{}
	if n.kind != mapping {
		var err error
		image.Name, err = n.text()
		if err == nil && image.Name == "" {
			err = n.errorf("is empty")
		}
		return image, err
	}
	known := imageKeywords(image)
	if err := n.read(known); err != nil {
		return nil, err
	}
	if image.Name == "" {
		return nil, n.errorf("needs a name")
	}
	return image, nil
}

func imageKeywords(image *gitlab.Image) keywords {
	return keywords{
		"name": into(&image.Name, (*node).text),
		"entrypoint": func(n *node) (err error) {
			image.Entrypoint, err = n.flatTexts()
			return err
		},
		"pull_policy": into(&image.PullPolicies, (*node).flatTexts),
	}
}

func readServices(n *node) ([]gitlab.Image, error) {
	if n.kind != list {
		return nil, n.errorf("must be a list, it is %s", n.kind)
	}
	var services []gitlab.Image
	for _, item := range n.items {
		var service gitlab.Image
		if item.kind != mapping {
			name, err := item.text()
			if err != nil {
				return nil, err
			}
			services = append(services, gitlab.Image{Name: name})
			continue
		}
		known := imageKeywords(&service)
		known["alias"] = into(&service.Alias, (*node).text)
		known["command"] = into(&service.Command, (*node).flatTexts)
		if err := item.read(known); err != nil {
			return nil, err
		}
		services = append(services, service)
	}
	return services, nil
}

// readEnvironment reads environment: as far as it names things: the variables
// that it gives to the job.
func readEnvironment(n *node) ([]gitlab.Variable, error) {
	var name, url, action, tier string
	if n.kind == mapping {
		if err := n.read(keywords{
			"name":            into(&name, (*node).text),
			"url":             into(&url, (*node).text),
			"action":          into(&action, (*node).text),
			"deployment_tier": into(&tier, (*node).text),
		}); err != nil {
			return nil, err
		}
	} else {
		var err error
		if name, err = n.text(); err != nil {
			return nil, err
		}
	}
	if name == "" {
		return nil, n.errorf("needs a name")
	}
	setDefault(&action, "start")
	variables := []gitlab.Variable{
		{Key: "CI_ENVIRONMENT_NAME", Value: name, Public: true},
		{Key: "CI_ENVIRONMENT_ACTION", Value: action, Public: true},
	}
	if tier != "" {
		variables = append(variables, gitlab.Variable{Key: "CI_ENVIRONMENT_TIER", Value: tier, Public: true})
	}
	if url != "" {
		variables = append(variables, gitlab.Variable{Key: "CI_ENVIRONMENT_URL", Value: url, Public: true})
	}
	return variables, nil
}

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}
