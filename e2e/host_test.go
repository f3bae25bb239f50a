package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// A host job is a job as any other, but for the instance.
func TestHostJob(t *testing.T) {
	t.Parallel()
	host := variable("SAGEMAKER_JOB", "host")
	for name, j := range map[string]job{
		"success":   {script: lines("cat README", "pwd"), after: lines("echo after $CI_JOB_STATUS")},
		"failure":   {script: lines("exit 42"), after: lines("echo after $CI_JOB_STATUS")},
		"artifacts": {script: tree, artifacts: []gitlab.Artifact{gitlab.Archive("out/")}},
		"environment": {
			script:    lines(`echo "KEY=value" >> "$GITLAB_ENV"`, `cat "$FILE"`),
			after:     lines(`echo "$KEY"`),
			variables: []gitlab.Variable{{Key: "FILE", Value: "content\n", File: true}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j.variables = append(j.variables, host)
			p := both(t, j)
			assert.Empty(t, shared.trainingJobs(t.Context(), t, p.ours.job))
		})
	}
}

// The runner's own check of its executor, project 0, costs nothing.
func TestBootVerify(t *testing.T) {
	t.Parallel()
	got := shared.run(t, job{script: lines(`printf 'ra%s\n' n`), change: func(p *gitlab.Payload) {
		p.Extra = map[string]any{"job_info": map[string]any{"name": "verify", "stage": "test", "project_id": 0}, "git_info": map[string]any{}}
		p.Variables = append(p.Variables, variable("GIT_STRATEGY", "none"))
	}})
	assert.Equal(t, gitlab.StateSuccess, got.State)
	assert.Empty(t, shared.trainingJobs(t.Context(), t, got.job))
}
