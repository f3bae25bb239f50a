package pipeline

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab/ci"
)

type source string

func (s source) ReadFile(string) ([]byte, error) { return []byte(s), nil }
func (s source) Files() ([]string, error)        { return nil, nil }

// Each case is a file, how the jobs end that run, and the states at last. The
// word "rounds" tells which jobs start together.
func TestSchedule(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		file   string
		fails  []string
		rounds [][]string
		states map[string]gitlab.State
	}{
		"stages wait for each other": {
			file:   "a: {stage: build, script: x}\nb: {stage: build, script: x}\nc: {script: x}\n",
			rounds: [][]string{{"a", "b"}, {"c"}},
		},
		"a failure stops later stages, but not its own": {
			file:  "a: {stage: build, script: x}\nb: {stage: build, script: x}\nc: {script: x}\nd: {stage: deploy, script: x}\n",
			fails: []string{"a"}, rounds: [][]string{{"a", "b"}},
			states: map[string]gitlab.State{"b": "success", "c": "skipped", "d": "skipped"},
		},
		"an allowed failure does not": {
			file:  "a: {stage: build, script: x, allow_failure: true}\nc: {script: x}\nd: {script: x, when: on_failure}\n",
			fails: []string{"a"}, rounds: [][]string{{"a"}, {"c"}},
			states: map[string]gitlab.State{"d": "skipped"},
		},
		"on_failure and always": {
			file:  "a: {stage: build, script: x}\nb: {script: x, when: on_failure}\nc: {script: x, when: always}\nd: {stage: deploy, script: x, when: on_failure}\n",
			fails: []string{"a"}, rounds: [][]string{{"a"}, {"b", "c"}, {"d"}},
		},
		"a skipped on_failure job is no obstacle": {
			file:   "a: {stage: build, script: x}\nb: {script: x, when: on_failure}\nc: {stage: deploy, script: x}\n",
			rounds: [][]string{{"a"}, {"c"}},
			states: map[string]gitlab.State{"b": "skipped"},
		},
		"needs go past stages": {
			file:   "a: {stage: build, script: x}\nb: {script: x}\nc: {stage: deploy, script: x, needs: [a]}\nd: {stage: deploy, script: x, needs: []}\n",
			rounds: [][]string{{"a", "d"}, {"b", "c"}},
		},
		"a skipped need skips": {
			file:  "a: {stage: build, script: x}\nb: {script: x}\nc: {stage: deploy, script: x, needs: [b]}\nd: {stage: deploy, script: x, needs: [b], when: always}\n",
			fails: []string{"a"}, rounds: [][]string{{"a"}, {"d"}},
			states: map[string]gitlab.State{"b": "skipped", "c": "skipped"},
		},
		"a manual job nobody plays": {
			file:   "a: {stage: build, script: x, when: manual}\nb: {script: x}\nc: {stage: deploy, script: x, needs: [a]}\n",
			rounds: [][]string{{"b"}},
			states: map[string]gitlab.State{"a": "manual", "c": "skipped"},
		},
		"a resource group is one at a time": {
			file:   "a: {script: x, resource_group: g}\nb: {script: x, resource_group: g}\nc: {script: x, resource_group: h}\n",
			rounds: [][]string{{"a", "c"}, {"b"}},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, err := ci.Load(source(c.file), "ci.yml")
			require.NoError(t, err)
			p, err := config.Pipeline(ci.Context{})
			require.NoError(t, err)
			s := newSchedule(p.Jobs, nil)
			var rounds [][]string
			for tasks := s.next(); len(tasks) > 0; tasks = s.next() {
				var round []string
				for _, t := range tasks {
					round = append(round, t.job.Name)
				}
				rounds = append(rounds, round)
				for _, t := range tasks {
					t.state = gitlab.StateSuccess
					for _, name := range c.fails {
						if t.job.Name == name {
							t.state = gitlab.StateFailed
						}
					}
				}
			}
			assert.Equal(t, c.rounds, rounds)
			for job, want := range c.states {
				for _, task := range s.tasks {
					if task.job.Name == job {
						assert.Equal(t, want, task.state, job)
					}
				}
			}
		})
	}
}
