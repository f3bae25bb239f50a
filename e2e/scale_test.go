package e2e_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// Twenty jobs at once on one runner: each gets its own files, log and exit code.
func TestTwentyJobsAtOnce(t *testing.T) {
	t.Parallel()
	const jobs = 20
	s := startStack(t, stackOptions{concurrent: jobs})
	var all []*gitlab.Job
	for i := range jobs {
		all = append(all, s.start(t, job{
			script: lines(
				fmt.Sprintf("echo job %d; echo %d > out; sleep 5", i, i),
				// All must be there at once, or one waits for another in vain.
				`cat README`, fmt.Sprintf("exit %d", i%3),
			),
			artifacts: []gitlab.Artifact{{Paths: []string{"out"}, When: "always", Type: "archive", Format: "zip"}},
		}))
	}
	for i, j := range all {
		got := end(t, j)
		assert.Equal(t, i%3, got.ExitCode)
		assert.Contains(t, output(got.log, "step_script"), fmt.Sprintf("job %d\n", i))
		assert.Equal(t, fmt.Sprintf("%d\n", i), got.archive(t)["out"].Content)
	}
	var requests recorded
	require.NoError(t, json.Unmarshal(s.get(t, "/_local/requests"), &requests))
	assert.Equal(t, jobs, requests.Counts["sagemaker"]["CreateTrainingJob"])
	assert.Less(t, requests.Counts["sagemaker"]["DescribeTrainingJob"], 8*jobs, "the agent's beat spares Describe calls")
	assert.Zero(t, requests.Counts["sagemaker"]["ListTrainingJobs"], "at most two a second on AWS")
}

// recorded is what the local AWS has been asked.
type recorded struct {
	Counts    map[string]map[string]int
	SageMaker []struct {
		Operation string
		Body      json.RawMessage
	}
}
