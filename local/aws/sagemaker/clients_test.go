package sagemaker

import (
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/stretchr/testify/require"
)

// python is an interpreter that has the modules. Without one the test is
// skipped, and fails in CI.
func python(t *testing.T, modules ...string) string {
	t.Helper()
	interpreter := cmp.Or(os.Getenv("SAGEMAKER_EXECUTOR_PYTHON"), "python3")
	for _, m := range modules {
		if out, err := exec.CommandContext(t.Context(), interpreter, "-c", "import "+m).CombinedOutput(); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s has no %s: %s", interpreter, m, out)
			}
			t.Skipf("%s has no %s; set SAGEMAKER_EXECUTOR_PYTHON to one that has", interpreter, m)
		}
	}
	return interpreter
}

func TestBoto3(t *testing.T) {
	t.Parallel()
	interpreter := python(t, "boto3")
	f := newFixture(t, nil)
	out, err := exec.CommandContext(t.Context(), interpreter, "testdata/clients.py", f.url, testImage, testRole).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, "all operations answered\n", string(out))
}

func TestAWSCommandLine(t *testing.T) {
	t.Parallel()
	interpreter := python(t, "awscli")
	f := newFixture(t, nil)
	cli := func(args ...string) (string, error) {
		args = append([]string{"-m", "awscli", "--endpoint-url", f.url, "--region", "us-east-1", "--output", "json", "sagemaker"}, args...)
		cmd := exec.CommandContext(t.Context(), interpreter, args...)
		cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=1")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		return out.String() + errs.String(), err
	}
	ok := func(args ...string) map[string]any {
		t.Helper()
		out, err := cli(args...)
		require.NoError(t, err, out)
		answer := map[string]any{}
		if out != "" {
			require.NoError(t, json.Unmarshal([]byte(out), &answer), out)
		}
		return answer
	}
	arn := ok("create-training-job", "--training-job-name", "cli", "--role-arn", testRole,
		"--algorithm-specification", `{"TrainingImage":"`+testImage+`","TrainingInputMode":"File","ContainerEntrypoint":["/bin/sh","-c","echo hello"]}`,
		"--output-data-config", "S3OutputPath=s3://bucket/out", "--resource-config", "InstanceType=ml.m5.large,InstanceCount=1,VolumeSizeInGB=1",
		"--stopping-condition", "MaxRuntimeInSeconds=60", "--tags", "Key=k,Value=v")["TrainingJobArn"].(string)
	require.Equal(t, types.TrainingJobStatusCompleted, f.finished("cli").TrainingJobStatus)
	require.Equal(t, "Completed", ok("describe-training-job", "--training-job-name", "cli")["TrainingJobStatus"])
	require.Len(t, ok("list-training-jobs", "--status-equals", "Completed")["TrainingJobSummaries"], 1)
	ok("add-tags", "--resource-arn", arn, "--tags", "Key=a,Value=b")
	ok("delete-tags", "--resource-arn", arn, "--tag-keys", "k")
	require.Len(t, ok("list-tags", "--resource-arn", arn)["Tags"], 1)
	require.Len(t, ok("search", "--resource", "TrainingJob", "--search-expression", `{"Filters":[{"Name":"TrainingJobName","Operator":"Equals","Value":"cli"}]}`)["Results"], 1)
	out, err := cli("stop-training-job", "--training-job-name", "cli")
	require.Error(t, err)
	require.Contains(t, out, "(ValidationException) when calling the StopTrainingJob operation: The request was rejected because the training job is in status Completed.")
	out, err = cli("update-training-job", "--training-job-name", "cli", "--remote-debug-config", "EnableRemoteDebug=true")
	require.Error(t, err)
	require.Contains(t, out, "ValidationException")
	ok("delete-training-job", "--training-job-name", "cli")
}
