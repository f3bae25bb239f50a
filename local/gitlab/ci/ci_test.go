package ci_test

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab/ci"
)

// files is a commit's files.
type files map[string]string

func (f files) ReadFile(path string) ([]byte, error) {
	if text, ok := f[path]; ok {
		return []byte(text), nil
	}
	return nil, fs.ErrNotExist
}

func (f files) Files() ([]string, error) { return slices.Sorted(maps.Keys(f)), nil }

func load(f files) (*ci.Pipeline, error) {
	return loadWith(f, nil)
}

func loadWith(f files, project []gitlab.Variable) (*ci.Pipeline, error) {
	config, err := ci.Load(f, ".gitlab-ci.yml")
	if err != nil {
		return nil, err
	}
	return config.Pipeline(ci.Context{
		Predefined: []gitlab.Variable{{Key: "CI_COMMIT_BRANCH", Value: "main", Public: true}, {Key: "CI_PIPELINE_SOURCE", Value: "push", Public: true}},
		Project:    project,
		Protected:  true,
		LastCommit: func(path string) string {
			if path == "go.sum" {
				return "commit-of-go.sum"
			}
			return ""
		},
	})
}

func one(text string) files { return files{".gitlab-ci.yml": text} }

func names(jobs []*ci.Job) []string {
	found := []string{}
	for _, job := range jobs {
		found = append(found, job.Name)
	}
	return found
}

func job(t *testing.T, p *ci.Pipeline, name string) *ci.Job {
	t.Helper()
	at := slices.IndexFunc(p.Jobs, func(j *ci.Job) bool { return j.Name == name })
	require.GreaterOrEqual(t, at, 0, "%s is not among %s", name, names(p.Jobs))
	return p.Jobs[at]
}

func value(payload gitlab.Payload, key string) string {
	for _, variable := range slices.Backward(payload.Variables) {
		if variable.Key == key {
			return variable.Value
		}
	}
	return "(none)"
}

func TestJobsOfAPipeline(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		file  string
		check func(t *testing.T, p *ci.Pipeline)
	}{
		"stages give the order": {
			"stages: [one, two]\nb: {stage: two, script: x}\na: {stage: one, script: x}\nlast: {stage: .post, script: x}\nfirst: {stage: .pre, script: x}\n",
			func(t *testing.T, p *ci.Pipeline) {
				assert.Equal(t, []string{"first", "a", "b", "last"}, names(p.Jobs))
				assert.Equal(t, []string{"first", "a"}, names(job(t, p, "b").ArtifactsFrom))
				assert.False(t, job(t, p, "b").HasNeeds)
			},
		},
		"hidden jobs are none": {
			".hidden: {script: x}\na: {script: x}\n",
			func(t *testing.T, p *ci.Pipeline) { assert.Equal(t, []string{"a"}, names(p.Jobs)) },
		},
		"needs": {
			"a: {stage: build, script: x}\nb: {stage: build, script: x}\nc: {script: x, needs: [a, {job: b, artifacts: false}, {job: gone, optional: true}]}\nd: {script: x, needs: []}\n",
			func(t *testing.T, p *ci.Pipeline) {
				assert.Equal(t, []string{"a", "b"}, names(job(t, p, "c").Needs))
				assert.Equal(t, []string{"a"}, names(job(t, p, "c").ArtifactsFrom))
				assert.True(t, job(t, p, "d").HasNeeds)
				assert.Empty(t, job(t, p, "d").ArtifactsFrom)
			},
		},
		"dependencies": {
			"a: {stage: build, script: x}\nb: {stage: build, script: x}\nc: {script: x, dependencies: [b]}\nd: {script: x, dependencies: []}\ne: {script: x, needs: [a, b], dependencies: [a]}\n",
			func(t *testing.T, p *ci.Pipeline) {
				assert.Equal(t, []string{"b"}, names(job(t, p, "c").ArtifactsFrom))
				assert.Empty(t, job(t, p, "d").ArtifactsFrom)
				assert.Equal(t, []string{"a"}, names(job(t, p, "e").ArtifactsFrom))
			},
		},
		"parallel": {
			"a: {script: x, parallel: 3}\nb: {stage: deploy, script: x, needs: [a]}\nc: {stage: deploy, script: x, needs: [a 2/3]}\n",
			func(t *testing.T, p *ci.Pipeline) {
				assert.Equal(t, []string{"a 1/3", "a 2/3", "a 3/3", "b", "c"}, names(p.Jobs))
				payload := p.Jobs[1].Payload(nil, nil)
				assert.Equal(t, []string{"2", "3"}, []string{value(payload, "CI_NODE_INDEX"), value(payload, "CI_NODE_TOTAL")})
				assert.Len(t, job(t, p, "b").Needs, 3)
				assert.Equal(t, []string{"a 2/3"}, names(job(t, p, "c").Needs))
			},
		},
		"parallel:matrix": {
			"a:\n  script: x\n  tags: [$CLOUD]\n  parallel:\n    matrix:\n      - {CLOUD: aws, TYPE: [s, m]}\n      - {CLOUD: [gcp]}\nb:\n  stage: deploy\n  script: x\n  needs:\n    - {job: a, parallel: {matrix: [{CLOUD: aws, TYPE: m}]}}\n",
			func(t *testing.T, p *ci.Pipeline) {
				assert.Equal(t, []string{"a: [aws, s]", "a: [aws, m]", "a: [gcp]", "b"}, names(p.Jobs))
				assert.Equal(t, "m", value(p.Jobs[1].Payload(nil, nil), "TYPE"))
				assert.Equal(t, []string{"gcp"}, p.Jobs[2].Tags)
				assert.Equal(t, []string{"a: [aws, m]"}, names(job(t, p, "b").Needs))
			},
		},
		"when, allow_failure, retry, resource_group": {
			"a: {script: x, when: manual}\nb: {script: x, when: always, allow_failure: true}\nc: {script: x, allow_failure: {exit_codes: [3, 4]}}\nd: {script: x, retry: {max: 2, when: [script_failure], exit_codes: 7}, resource_group: g}\ne: {script: x, allow_failure: {exit_codes: 3}, retry: 1}\n",
			func(t *testing.T, p *ci.Pipeline) {
				assert.Equal(t, "manual", job(t, p, "a").When)
				assert.True(t, job(t, p, "a").AllowFailure)
				assert.True(t, job(t, p, "b").AllowsFailure(0))
				assert.True(t, job(t, p, "c").AllowsFailure(4))
				assert.False(t, job(t, p, "c").AllowsFailure(1))
				d := job(t, p, "d")
				assert.True(t, d.Retry.Wants(1, "script_failure", 1))
				assert.False(t, d.Retry.Wants(2, "script_failure", 1))
				assert.False(t, d.Retry.Wants(0, "runner_system_failure", 1))
				assert.True(t, d.Retry.Wants(0, "job_execution_timeout", 7))
				assert.Equal(t, "g", d.ResourceGroup)
				assert.True(t, job(t, p, "e").Retry.Wants(0, "anything", 0))
			},
		},
		"rules": {
			"never: {script: x, rules: [{if: '$CI_COMMIT_BRANCH == \"main\"', when: never}, {when: always}]}\nnone: {script: x, rules: [{if: $NOTHING}]}\nmanual: {script: x, rules: [{when: manual}]}\nallowed: {script: x, rules: [{if: $CI_COMMIT_BRANCH, allow_failure: true, when: on_failure}]}\nnested: {script: x, rules: [!reference [.rules, rules]]}\n.rules: {rules: [{if: '$CI_PIPELINE_SOURCE == \"push\"'}]}\n",
			func(t *testing.T, p *ci.Pipeline) {
				assert.Equal(t, []string{"manual", "allowed", "nested"}, names(p.Jobs))
				assert.False(t, job(t, p, "manual").AllowFailure)
				assert.True(t, job(t, p, "allowed").AllowFailure)
				assert.Equal(t, "on_failure", job(t, p, "allowed").When)
			},
		},
		"workflow": {
			"workflow:\n  name: on $CI_COMMIT_BRANCH\n  rules:\n    - {if: $CI_COMMIT_TAG, when: never}\n    - {if: $CI_COMMIT_BRANCH, variables: {W: w}}\na: {script: x}\n",
			func(t *testing.T, p *ci.Pipeline) {
				assert.Equal(t, "on main", p.Name)
				payload := p.Jobs[0].Payload(nil, nil)
				assert.Equal(t, []string{"w", "on main"}, []string{value(payload, "W"), value(payload, "CI_PIPELINE_NAME")})
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := load(one(c.file))
			require.NoError(t, err)
			c.check(t, p)
		})
	}
}

func TestInclude(t *testing.T) {
	t.Parallel()
	p, err := load(files{
		".gitlab-ci.yml":     "include:\n  - /ci/one.yml\n  - local: ci/more/*.yml\nvariables: {V: main}\na:\n  script: [main]\n",
		"ci/one.yml":         "include: ci/deep.yml\nvariables: {V: one, W: one}\na:\n  script: [one]\n  tags: [one]\n",
		"ci/deep.yml":        "deep: {script: x}\n",
		"ci/more/two.yml":    "two: {script: x}\n",
		"ci/more/three.yml":  "three: {script: x}\n",
		"ci/more/sub/no.yml": "no: {script: x}\n",
	})
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"deep", "a", "two", "three"}, names(p.Jobs))
	a := job(t, p, "a")
	assert.Equal(t, []string{"one"}, a.Tags)
	payload := a.Payload(nil, nil)
	assert.Equal(t, []string{"main"}, payload.Steps[0].Script)
	assert.Equal(t, []string{"main", "one"}, []string{value(payload, "V"), value(payload, "W")})
}

func TestErrors(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ file, want string }{
		"unknown keyword of a job":   {"a:\n  script: x\n  scripts: y\n", ".gitlab-ci.yml:3: job a: scripts: this keyword is not known"},
		"unknown keyword in a map":   {"a:\n  script: x\n  artifacts:\n    path: y\n", ".gitlab-ci.yml:4: job a: artifacts:path: this keyword is not known"},
		"unknown keyword in a rule":  {"a:\n  script: x\n  rules:\n    - changes: [x]\n", ".gitlab-ci.yml:4: job a: rules:changes: this keyword is not known"},
		"unknown keyword in default": {"default:\n  script: x\na:\n  script: x\n", ".gitlab-ci.yml:2: default:script: this keyword is not known"},
		"unknown global keyword":     {"spec: 1\na:\n  script: x\n", ".gitlab-ci.yml:1: job spec: neither a keyword"},
		"unknown report":             {"a:\n  script: x\n  artifacts: {reports: {sarif: y}}\n", "artifacts:reports:sarif: this report is not known"},
		"in an extended hidden job":  {".b:\n  scripts: y\na:\n  extends: .b\n  script: x\n", ".gitlab-ci.yml:2: job a: scripts: this keyword is not known"},
		"only":                       {"a:\n  script: x\n  only: [main]\n", "job a: only: the local pipeline knows rules, not only"},
		"trigger":                    {"a:\n  trigger: x\n", "job a: trigger: the local pipeline cannot start another pipeline"},
		"environment:on_stop":        {"a:\n  script: x\n  environment: {name: n, on_stop: s}\n", "job a: environment:on_stop: this keyword is not known"},
		"delayed":                    {"a:\n  script: x\n  when: delayed\n", `job a: when: is "delayed", allowed is on_success`},
		"no script":                  {"a:\n  image: x\n", ".gitlab-ci.yml:2: job a: a job needs a script"},
		"no job":                     {"stages: [a]\n", "there is no job in it"},
		"unknown stage":              {"a:\n  stage: s\n  script: x\n", `stage: there is no stage "s"; the stages are .pre, build, test, deploy, .post`},
		"unknown need":               {"a:\n  script: x\n  needs: [b]\n", `job a: needs: there is no job "b"`},
		"need that rules left out":   {"a:\n  script: x\n  needs: [b]\nb:\n  stage: build\n  script: x\n  rules: [{when: never}]\n", `needs: "b" is not in this pipeline`},
		"needs in a circle":          {"a:\n  script: x\n  needs: [b]\nb:\n  script: x\n  needs: [a]\n", "needs itself, in a circle"},
		"need in a later stage":      {"a:\n  stage: build\n  script: x\n  needs: [b]\nb:\n  script: x\n", `"b" is in a later stage`},
		"dependency in no stage":     {"a:\n  script: x\n  dependencies: [b]\nb:\n  script: x\n", `dependencies: "b" is in no earlier stage`},
		"extends nobody":             {"a:\n  extends: .b\n  script: x\n", `job a: extends: there is no job ".b"`},
		"extends in a circle":        {".b: {extends: .c}\n.c: {extends: .b}\na: {extends: .b, script: x}\n", "extends: goes in a circle"},
		"reference to nothing":       {"a:\n  script: [!reference [.b, script]]\n", `!reference [.b, script]: there is no ".b"`},
		"reference in a circle":      {"a:\n  script: [!reference [a, script]]\n", "or in a circle"},
		"unknown tag":                {"a:\n  script: !foo x\n", "the YAML tag !foo is not known"},
		"key twice":                  {"a:\n  script: x\n  script: y\n", ".gitlab-ci.yml:3: the key \"script\" is there twice"},
		"not a duration":             {"a:\n  script: x\n  timeout: soon\n", `timeout: "soon" is no duration`},
		"retry too often":            {"a:\n  script: x\n  retry: 3\n", "retry: is 3, allowed is 0, 1 or 2"},
		"retry for an unknown word":  {"a:\n  script: x\n  retry: {max: 1, when: bad_luck}\n", `retry:when: is "bad_luck"`},
		"wrong expression":           {"a:\n  script: x\n  rules: [{if: '$A ='}]\n", `cannot be read from "="`},
		"remote include":             {"include: https://example.com/x.yml\na:\n  script: x\n", "include:remote is not known"},
		"include of a template":      {"include: {template: x.yml}\na:\n  script: x\n", "include:template: this keyword is not known"},
		"include of nothing":         {"include: none.yml\na:\n  script: x\n", ".gitlab-ci.yml:1: include: read none.yml"},
		"empty matrix":               {"a:\n  script: x\n  parallel: {matrix: []}\n", "parallel:matrix: must have at least one map of variables"},
		"include of itself":          {"include: .gitlab-ci.yml\na:\n  script: x\n", "includes itself"},
		"workflow says no":           {"workflow: {rules: [{if: $NO}]}\na:\n  script: x\n", "there is no pipeline: no rule of workflow:rules matches"},
		"all rules say no":           {"a: {script: x, rules: [{when: never}]}\n", "the rules of all jobs leave none"},
		"variables of a list":        {"a:\n  script: x\n  variables: [x]\n", "variables: must be a map"},
		"variable is a list":         {"a:\n  script: x\n  variables: {A: [x]}\n", "variables:A: must be a text, it is a list"},
		"not YAML":                   {"a: [\n", ".gitlab-ci.yml: "},
		"two documents":              {"a: {script: x}\n---\nb: {script: x}\n", ".gitlab-ci.yml:3: a second YAML document"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(one(c.file))
			require.Error(t, err)
			assert.Contains(t, err.Error(), c.want)
		})
	}
}

func TestAliasesCannotExplode(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(".a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 8 {
		fmt.Fprintf(&b, ".a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}
	_, err := load(one(b.String()))
	require.ErrorContains(t, err, "too large")
}

func TestRulesIf(t *testing.T) {
	t.Parallel()
	project := []gitlab.Variable{
		{Key: "BRANCH", Value: "feature/One"},
		{Key: "EMPTY", Value: ""},
		{Key: "YES", Value: "yes"},
		{Key: "PATTERN", Value: "/^feature/"},
		{Key: "WORD", Value: "feature"},
		{Key: "NESTED", Value: "$YES"},
	}
	for expression, want := range map[string]bool{
		`$YES`:                                   true,
		`$EMPTY`:                                 false,
		`$NOTHING`:                               false,
		`$YES == "yes"`:                          true,
		`$YES == 'yes'`:                          true,
		`$YES != "yes"`:                          false,
		`"yes" == $YES`:                          true,
		`$NESTED == $YES`:                        true,
		`$NOTHING == null`:                       true,
		`$EMPTY == null`:                         false,
		`$EMPTY == ""`:                           true,
		`$NOTHING != null`:                       false,
		`$BRANCH =~ /^feature\/one$/`:            false,
		`$BRANCH =~ /^feature\/one$/i`:           true,
		`$BRANCH =~ /^feature/ && $YES`:          true,
		`$BRANCH !~ /^feature/`:                  false,
		`$NOTHING =~ /x/`:                        false,
		`$NOTHING !~ /x/`:                        true,
		`$BRANCH =~ $PATTERN`:                    true,
		`$NOTHING && $YES || $YES`:               true,
		`$YES || $YES && $NOTHING`:               true,
		`($YES || $YES) && $NOTHING`:             false,
		`$YES == "yes" && ($EMPTY || $BRANCH)`:   true,
		`$YES == "no" || $BRANCH == "feature/x"`: false,
	} {
		t.Run(expression, func(t *testing.T) {
			t.Parallel()
			p, err := loadWith(one("always: {script: x}\na:\n  script: x\n  rules:\n    - if: >-\n        "+expression+"\n"), project)
			require.NoError(t, err)
			assert.Equal(t, want, slices.Contains(names(p.Jobs), "a"))
		})
	}
	_, err := loadWith(one("a: {script: x, rules: [{if: '$BRANCH =~ $WORD'}]}\n"), project)
	require.ErrorContains(t, err, `"feature" is no /regular expression/`)
}
