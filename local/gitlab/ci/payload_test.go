package ci_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab/ci"
)

// Each keyword, by what the payload of job "a" holds.
func TestPayload(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		file  string
		check func(t *testing.T, p gitlab.Payload)
	}{
		"script: before_script comes first, nested lists are flat": {
			"a:\n  before_script: [b]\n  script:\n    - one\n    - [two, [three]]\n  after_script: [z]\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, []gitlab.Step{
					{Name: "script", Script: []string{"b", "one", "two", "three"}, Timeout: 3600, When: "on_success"},
					{Name: "after_script", Script: []string{"z"}, Timeout: 3600, When: "always", AllowFailure: true},
				}, p.Steps)
			},
		},
		"script as a text": {
			"a:\n  script: echo a\n",
			func(t *testing.T, p gitlab.Payload) { assert.Equal(t, []string{"echo a"}, p.Steps[0].Script) },
		},
		"default": {
			"default:\n  image: python\n  before_script: [b]\n  timeout: 1h 30m\na:\n  script: [s]\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, "python", p.Image.Name)
				assert.Equal(t, []string{"b", "s"}, p.Steps[0].Script)
				assert.Equal(t, 5400, p.RunnerInfo.Timeout)
			},
		},
		"a default at the top level": {
			"image: python\nbefore_script: [b]\na:\n  script: [s]\n  before_script: []\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, "python", p.Image.Name)
				assert.Equal(t, []string{"s"}, p.Steps[0].Script)
			},
		},
		"inherit": {
			"default:\n  image: python\n  before_script: [b]\nvariables: {X: x, Y: y}\na:\n  inherit: {default: [image], variables: [X]}\n  script: [s]\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, "python", p.Image.Name)
				assert.Equal(t, []string{"s"}, p.Steps[0].Script)
				assert.Equal(t, "x", value(p, "X"))
				assert.Equal(t, "(none)", value(p, "Y"))
			},
		},
		"image with entrypoint": {
			"a:\n  image: {name: \"img:$TAG\", entrypoint: [\"/bin/sh\", \"-c\"]}\n  script: [s]\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, &gitlab.Image{Name: "img:$TAG", Entrypoint: []string{"/bin/sh", "-c"}}, p.Image)
			},
		},
		"services": {
			"a:\n  services: [redis, {name: pg, alias: db}]\n  script: [s]\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, []gitlab.Image{{Name: "redis"}, {Name: "pg", Alias: "db"}}, p.Services)
			},
		},
		"variables: job over global, project over all": {
			"variables: {X: global, Y: global, PROJECT: file}\na:\n  variables: {X: job}\n  script: [s]\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, []string{"job", "global", "given"}, []string{value(p, "X"), value(p, "Y"), value(p, "PROJECT")})
			},
		},
		"variables: types, maps, expand": {
			"variables:\n  D: {value: d, description: text, options: [c, d]}\na:\n  variables:\n    I: 1\n    F: 0.10\n    B: true\n    Y: yes\n    E: {value: '$D', expand: false}\n  script: [s]\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, "d", value(p, "D"))
				assert.Equal(t, "1", value(p, "I"))
				assert.Equal(t, "0.10", value(p, "F"))
				assert.Equal(t, "true", value(p, "B"))
				assert.Equal(t, "true", value(p, "Y"))
				assert.Contains(t, p.Variables, gitlab.Variable{Key: "E", Value: "$D", Public: true, Raw: true})
			},
		},
		"variables: nested references": {
			"a:\n  variables: {C: '$B c', B: '${A} b', A: a, DOLLARS: '$$A', UNKNOWN: '$NOBODY', SELF: '$SELF!', RAW: {value: r, expand: false}, TORAW: $RAW}\n  script: [s]\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, "a b c", value(p, "C"))
				assert.Equal(t, "$$A", value(p, "DOLLARS"))
				assert.Equal(t, "$NOBODY", value(p, "UNKNOWN"))
				assert.Equal(t, "$SELF!", value(p, "SELF"))
				assert.Equal(t, "$RAW", value(p, "TORAW"))
			},
		},
		"variables in a circle stay": {
			"a:\n  variables: {A: $B, B: $A}\n  script: [s]\n",
			func(t *testing.T, p gitlab.Payload) { assert.Equal(t, "$B", value(p, "A")) },
		},
		"artifacts": {
			"a:\n  script: [s]\n  artifacts: {name: n, paths: [out/, $X/*.bin], exclude: [out/tmp], untracked: true, when: always, expire_in: 1 week, public: false}\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, []gitlab.Artifact{{
					Name: "n", Paths: []string{"out/", "$X/*.bin"}, Exclude: []string{"out/tmp"}, Untracked: true,
					When: "always", Type: "archive", Format: "zip", ExpireIn: "1 week",
				}}, p.Artifacts)
			},
		},
		"artifacts: reports alone make no archive": {
			"a:\n  script: [s]\n  artifacts: {reports: {dotenv: build.env, junit: [a.xml, b.xml], coverage_report: {coverage_format: cobertura, path: c.xml}}}\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, []gitlab.Artifact{
					{Name: ".env", Paths: []string{"build.env"}, When: "always", Type: "dotenv", Format: "gzip"},
					{Name: "junit.xml", Paths: []string{"a.xml", "b.xml"}, When: "always", Type: "junit", Format: "gzip"},
					{Name: "cobertura-coverage.xml", Paths: []string{"c.xml"}, When: "always", Type: "cobertura", Format: "gzip"},
				}, p.Artifacts)
			},
		},
		"cache": {
			"a:\n  script: [s]\n  cache:\n    - {key: k, paths: [c], policy: pull, when: always, untracked: true, fallback_keys: [f]}\n    - {paths: [d], unprotect: true}\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, []gitlab.Cache{
					{Key: "k-protected", Paths: []string{"c"}, Policy: "pull", When: "always", Untracked: true, FallbackKeys: []string{"f-protected"}},
					{Key: "default-non_protected", Paths: []string{"d"}, Policy: "pull-push", When: "on_success"},
				}, p.Cache)
			},
		},
		"cache: key by files": {
			"a:\n  script: [s]\n  cache:\n    - {key: {files: [go.sum, missing], prefix: p}, paths: [c]}\n    - {key: {files: [missing]}, paths: [c]}\n",
			func(t *testing.T, p gitlab.Payload) {
				// sha1 of "commit-of-go.sum"
				assert.Equal(t, "p-130d58ca5418748224fe5ab07ed391078e531fb1-protected", p.Cache[0].Key)
				assert.Equal(t, "default-protected", p.Cache[1].Key)
			},
		},
		"extends: deep merge, later bases win, lists are replaced": {
			".x:\n  script: [x]\n  variables: {V: x, X: x}\n  tags: [x]\n.y:\n  extends: .x2\n  variables: {V: y}\n.x2:\n  variables: {Z: z}\na:\n  extends: [.x, .y]\n  variables: {OWN: own}\n  tags: [a]\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, []string{"x"}, p.Steps[0].Script)
				assert.Equal(t, []string{"y", "x", "z", "own"}, []string{value(p, "V"), value(p, "X"), value(p, "Z"), value(p, "OWN")})
			},
		},
		"anchors and merge keys": {
			".base: &base\n  script: [base]\n  timeout: 10 minutes\n.vars: &vars {V: v}\na:\n  <<: *base\n  variables:\n    <<: *vars\n    W: w\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, []string{"base"}, p.Steps[0].Script)
				assert.Equal(t, 600, p.RunnerInfo.Timeout)
				assert.Equal(t, []string{"v", "w"}, []string{value(p, "V"), value(p, "W")})
			},
		},
		"!reference, nested": {
			".one:\n  script: [one, !reference [.two, script]]\n.two:\n  script: [two]\na:\n  script:\n    - !reference [.one, script]\n    - three\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, []string{"one", "two", "three"}, p.Steps[0].Script)
			},
		},
		"environment": {
			"a:\n  script: [s]\n  environment: {name: Prod/EU, url: 'https://x'}\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, "Prod/EU", value(p, "CI_ENVIRONMENT_NAME"))
				assert.Equal(t, "prod-eu", value(p, "CI_ENVIRONMENT_SLUG"))
			},
		},
		"interruptible": {
			"a:\n  script: [s]\n  interruptible: true\n",
			func(t *testing.T, p gitlab.Payload) { assert.Equal(t, "a", p.JobInfo.Name) },
		},
		"rules:variables": {
			"a:\n  script: [s]\n  variables: {V: job}\n  rules:\n    - {if: $CI_COMMIT_BRANCH == \"main\", variables: {V: rule}}\n",
			func(t *testing.T, p gitlab.Payload) { assert.Equal(t, "rule", value(p, "V")) },
		},
		"job variables": {
			"a:\n  script: [s]\n  stage: deploy\n",
			func(t *testing.T, p gitlab.Payload) {
				assert.Equal(t, []string{"a", "deploy", "1"}, []string{value(p, "CI_JOB_NAME"), value(p, "CI_JOB_STAGE"), value(p, "CI_NODE_TOTAL")})
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := loadWith(one(c.file), []gitlab.Variable{{Key: "PROJECT", Value: "given"}})
			require.NoError(t, err)
			c.check(t, job(t, p, "a").Payload(nil, nil))
		})
	}
}

func TestDotenvOutranksTheFile(t *testing.T) {
	t.Parallel()
	p, err := loadWith(one("a:\n  variables: {V: file, P: file}\n  script: [s]\n"), []gitlab.Variable{{Key: "P", Value: "project"}})
	require.NoError(t, err)
	payload := p.Jobs[0].Payload([]gitlab.Variable{{Key: "V", Value: "dotenv"}, {Key: "P", Value: "dotenv"}}, nil)
	assert.Equal(t, []string{"dotenv", "project"}, []string{value(payload, "V"), value(payload, "P")})
}

func TestPredefined(t *testing.T) {
	t.Parallel()
	variables := map[string]gitlab.Variable{}
	for _, v := range ci.Predefined(
		ci.Project{ID: 3, Path: "group/sub/demo", URL: "http://x/group/sub/demo"},
		ci.Commit{SHA: "0123456789abcdef", Branch: "Feature/A_b", Message: "Title costs $5\n\nBody\n", DefaultBranch: "main", Author: "Jo Doe <jo@example.com>"},
		7, "push") {
		variables[v.Key] = v
	}
	for key, want := range map[string]string{
		"CI_COMMIT_SHORT_SHA": "01234567", "CI_COMMIT_REF_NAME": "Feature/A_b", "CI_COMMIT_REF_SLUG": "feature-a-b",
		"CI_COMMIT_BRANCH": "Feature/A_b", "CI_COMMIT_TITLE": "Title costs $5", "CI_COMMIT_DESCRIPTION": "Body\n",
		"CI_PROJECT_NAME": "demo", "CI_PROJECT_NAMESPACE": "group/sub", "CI_PROJECT_ROOT_NAMESPACE": "group",
		"CI_PIPELINE_ID": "7", "CI_PIPELINE_SOURCE": "push", "CI_DEFAULT_BRANCH": "main", "GITLAB_USER_NAME": "Jo Doe", "GITLAB_USER_LOGIN": "jo",
	} {
		assert.Equal(t, want, variables[key].Value, key)
	}
	assert.NotContains(t, variables, "CI_COMMIT_TAG")
	assert.True(t, variables["CI_COMMIT_TITLE"].Raw)
}
