package e2e_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// A mistake of the user's is a build failure with a code of its own, says what,
// where and what is allowed, and costs nothing.
func TestRefused(t *testing.T) {
	t.Parallel()
	const invalid, policy = 78, 77
	with := func(key, value string) job { return job{variables: []gitlab.Variable{variable(key, value)}} }
	file := func(content string) job {
		return job{variables: []gitlab.Variable{{Key: "SAGEMAKER_SPEC", Value: content, File: true}}}
	}
	for name, test := range map[string]struct {
		job  job
		code int
		says []string
	}{
		"instance count":            {with("SAGEMAKER_INSTANCE_COUNT", "many"), invalid, []string{"SAGEMAKER_INSTANCE_COUNT", `"many"`}},
		"instance type":             {with("SAGEMAKER_INSTANCE_TYPE", "t2.micro"), invalid, []string{"SAGEMAKER_INSTANCE_TYPE", `"t2.micro"`, "ml.m5.large"}},
		"one of the instance types": {with("SAGEMAKER_INSTANCE_TYPE", "ml.m5.large,x"), invalid, []string{"SAGEMAKER_INSTANCE_TYPE", `"x"`}},
		"volume":                    {with("SAGEMAKER_VOLUME_SIZE_GB", "0"), invalid, []string{"SAGEMAKER_VOLUME_SIZE_GB", `"0"`}},
		"spot":                      {with("SAGEMAKER_SPOT", "maybe"), invalid, []string{"SAGEMAKER_SPOT", `"maybe"`, "true"}},
		"max runtime":               {with("SAGEMAKER_MAX_RUNTIME", "soon"), invalid, []string{"SAGEMAKER_MAX_RUNTIME", `"soon"`}},
		"max wait without spot":     {with("SAGEMAKER_MAX_WAIT", "2h"), invalid, []string{"SAGEMAKER_MAX_WAIT", "SAGEMAKER_SPOT"}},
		"keep alive":                {with("SAGEMAKER_KEEP_ALIVE", "100h"), invalid, []string{"SAGEMAKER_KEEP_ALIVE", `"100h"`}},
		"checkpoints":               {with("SAGEMAKER_CHECKPOINTS", "../x"), invalid, []string{"SAGEMAKER_CHECKPOINTS", `"../x"`}},
		"input":                     {with("SAGEMAKER_INPUT_TRAIN", "/data"), invalid, []string{"SAGEMAKER_INPUT_TRAIN", `"/data"`, "s3://"}},
		"hyperparameters":           {with("SAGEMAKER_HYPERPARAMETERS", "lr=1"), invalid, []string{"SAGEMAKER_HYPERPARAMETERS", "JSON"}},
		"metric":                    {with("SAGEMAKER_METRIC_LOSS", "loss=(["), invalid, []string{"SAGEMAKER_METRIC_LOSS"}},
		"role":                      {with("SAGEMAKER_ROLE_ARN", "arn:aws:iam::000000000000:role/admin"), policy, []string{"SAGEMAKER_ROLE_ARN", "role/admin", "policy.roles"}},
		"kind":                      {with("SAGEMAKER_JOB", "trainig"), invalid, []string{"SAGEMAKER_JOB", `"trainig"`, "training"}},
		"kind of a later version":   {with("SAGEMAKER_JOB", "endpoint"), invalid, []string{"SAGEMAKER_JOB", "endpoint"}},
		"misspelt variable":         {with("SAGEMAKER_INSTNCE_TYPE", "ml.m5.large"), invalid, []string{"SAGEMAKER_INSTNCE_TYPE", "SAGEMAKER_INSTANCE_TYPE"}},
		"spec that is not there":    {with("SAGEMAKER_SPEC", "spec.yml"), invalid, []string{"SAGEMAKER_SPEC", `"spec.yml"`}},
		"spec outside":              {with("SAGEMAKER_SPEC", "../../etc/passwd"), invalid, []string{"SAGEMAKER_SPEC"}},
		"spec that is no mapping":   {file("just text"), invalid, []string{"SAGEMAKER_SPEC"}},
		"spec with a wrong field":   {file(`{"ResourceConfig": {"InstanceCont": 2}}`), invalid, []string{"InstanceCont"}},
		"spec that names the job":   {file(`{"TrainingJobName": "mine"}`), invalid, []string{"TrainingJobName"}},
		"spec against the policy":   {file(`{"RoleArn": "arn:aws:iam::000000000000:role/admin"}`), policy, []string{"RoleArn", "policy.roles"}},
		"spec, field not listed":    {file(`{"ExperimentConfig": {"ExperimentName": "x"}}`), policy, []string{"ExperimentConfig", "policy.spec_fields"}},
		"network isolation":         {file(`{"EnableNetworkIsolation": true}`), invalid, []string{"network isolation"}},
		"services":                  {job{change: func(p *gitlab.Payload) { p.Services = []gitlab.Image{{Name: "postgres:16"}} }}, invalid, []string{"services", "postgres:16"}},
		"steps": {job{change: func(p *gitlab.Payload) { // run: instead of script:, the runner allows no other way
			p.Steps, p.Extra = nil, map[string]any{"run": `[{"name":"x","script":"echo"}]`}
		}}, invalid, []string{"run"}},
		"another project's exchange": {with("SAGEMAKER_INPUT_X", "s3://"+bucket+"/"+prefix+"/jobs/"), policy, []string{"SAGEMAKER_INPUT_X"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := test.job
			j.script = lines(`printf 'ra%s\n' n`)
			got := shared.run(t, j)
			assert.Equal(t, gitlab.StateFailed, got.State)
			assert.Equal(t, "script_failure", got.FailureReason, "a retry would not help")
			assert.Equal(t, test.code, got.ExitCode)
			for _, text := range test.says {
				assert.Contains(t, string(got.log), text)
			}
			assert.NotContains(t, string(got.log), "ran\n")
			assert.NotContains(t, string(got.log), "root:x:0", "no file's content in an error")
			assert.Empty(t, shared.trainingJobs(t.Context(), t, got.job), "nothing was created")
		})
	}
}

// A spec file lies in the repository, so that it is read after the sources came:
// what it may not say still costs nothing.
func TestSpecInTheRepository(t *testing.T) {
	t.Parallel()
	write := func(command string) job {
		return job{
			script:    lines(`echo "$SM_HPS"`),
			variables: []gitlab.Variable{variable("SAGEMAKER_SPEC", "spec.yml"), variable("SAGEMAKER_HP_EPOCHS", "3")},
			change: func(p *gitlab.Payload) {
				p.Extra = map[string]any{"hooks": []map[string]any{{"name": "post_get_sources_script", "script": []string{command}}}}
			},
		}
	}
	t.Run("is used", func(t *testing.T) {
		t.Parallel()
		got := shared.run(t, write(`printf 'HyperParameters:\n  batch: "8"\n  epochs: "1"\n' > spec.yml`))
		assert.Equal(t, gitlab.StateSuccess, got.State)
		assert.Contains(t, output(got.log, "step_script"), `"batch":8`)
		assert.Contains(t, output(got.log, "step_script"), `"epochs":3`, "variables win")
	})
	for name, command := range map[string]string{
		"link out of the project": `ln -s /etc/passwd spec.yml`,
		"device":                  `ln -s /dev/zero spec.yml`,
		"pipe":                    `mkfifo spec.yml`,
		"directory":               `mkdir spec.yml`,
		"broken":                  `printf 'a: [\n' > spec.yml`,
		"against the policy":      `printf 'RoleArn: arn:aws:iam::000000000000:role/admin\n' > spec.yml`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := shared.run(t, write(command))
			assert.Equal(t, gitlab.StateFailed, got.State)
			assert.Equal(t, "script_failure", got.FailureReason)
			assert.Contains(t, []int{77, 78}, got.ExitCode)
			assert.Contains(t, string(got.log), "spec.yml")
			assert.NotContains(t, string(got.log), "root:x:0")
			assert.Empty(t, shared.trainingJobs(t.Context(), t, got.job), "nothing was created")
		})
	}
}

// The administrator's mistakes are system failures.
func TestWrongSettings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		from, to string
		says     []string
	}{
		"unknown key":  {"region = ", "regoin = \"x\"\nregion = ", []string{"regoin", "sagemaker-executor.toml:2", "region"}},
		"no role":      {"role_arn = ", "# role_arn = ", []string{"role_arn"}},
		"wrong value":  {`stop_grace = "3s"`, `stop_grace = "soon"`, []string{"stop_grace", "soon"}},
		"no such file": {"", "", []string{"sagemaker-executor.toml"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startStack(t, stackOptions{})
			text, err := os.ReadFile(s.settings)
			require.NoError(t, err)
			if test.from == "" {
				require.NoError(t, os.Remove(s.settings))
			} else {
				require.Contains(t, string(text), test.from)
				changed := strings.Replace(string(text), test.from, test.to, 1)
				require.NoError(t, os.WriteFile(s.settings, []byte(changed), 0o644))
			}
			got := s.run(t, job{script: lines("echo never")})
			assert.Equal(t, gitlab.StateFailed, got.State)
			assert.Equal(t, "runner_system_failure", got.FailureReason)
			for _, says := range test.says {
				assert.Contains(t, string(got.log), says)
			}
			assert.Empty(t, s.trainingJobs(context.Background(), t, got.job), "nothing was created")
		})
	}
}
