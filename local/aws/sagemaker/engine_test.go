package sagemaker

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssm "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sagemaker/container"
)

// TestContainerEngine needs SAGEMAKER_EXECUTOR_ENGINE (e.g. "podman --runtime
// runc") and SAGEMAKER_EXECUTOR_ENGINE_IMAGE, the reference, as of ECR, of an
// image with a shell that the engine already has.
func TestContainerEngine(t *testing.T) {
	t.Parallel()
	command, image := os.Getenv("SAGEMAKER_EXECUTOR_ENGINE"), os.Getenv("SAGEMAKER_EXECUTOR_ENGINE_IMAGE")
	if command == "" || image == "" {
		t.Skip("SAGEMAKER_EXECUTOR_ENGINE and SAGEMAKER_EXECUTOR_ENGINE_IMAGE are not set: a container engine is optional")
	}
	owner := t.TempDir()
	engine, err := container.NewEngine(t.Context(), command, owner)
	require.NoError(t, err)
	f := newFixture(t, func(o *Options) { o.Runtime, o.StopGrace = engine, 500*time.Millisecond })
	job := func(name, script string) *awssm.CreateTrainingJobInput {
		in := request(name, script)
		in.AlgorithmSpecification.TrainingImage = aws.String(image)
		return in
	}
	f.objects.put("in/a", "input\n")
	in := job("runs", "cat /opt/ml/input/data/c/a; hostname; grep -c algo-1 /etc/hosts; echo $TRAINING_JOB_NAME; echo m > /opt/ml/model/m; exit 5")
	in.InputDataConfig = []types.Channel{{ChannelName: aws.String("c"), DataSource: &types.DataSource{S3DataSource: &types.S3DataSource{
		S3DataType: types.S3DataTypeS3Prefix, S3Uri: aws.String("s3://bucket/in/"),
	}}}}
	d := f.run(in)
	require.Equal(t, "AlgorithmError: , exit code: 5", aws.ToString(d.FailureReason))
	require.Equal(t, []string{"input", "algo-1", "1", "runs"}, f.logs.lines("runs", ""))
	require.Contains(t, f.archived("out/runs/output/model.tar.gz"), "m")

	none := job("no-program", "")
	none.AlgorithmSpecification.ContainerEntrypoint = []string{"no-such-program"}
	require.Equal(t, "AlgorithmError: , exit code: 127", aws.ToString(f.run(none).FailureReason))
	require.Contains(t, strings.Join(f.logs.lines("no-program", ""), "\n"), "no-such-program")

	missing := job("no-image", "true")
	missing.AlgorithmSpecification.TrainingImage = aws.String("123456789012.dkr.ecr.us-east-1.amazonaws.invalid/gone:1")
	missing.AlgorithmSpecification.TrainingImageConfig = &types.TrainingImageConfig{TrainingRepositoryAccessMode: types.TrainingRepositoryAccessModeVpc}
	missing.VpcConfig = &types.VpcConfig{Subnets: []string{"subnet-1"}, SecurityGroupIds: []string{"sg-1"}}
	require.Contains(t, aws.ToString(f.run(missing).FailureReason), "ClientError: ")

	f.create(job("deaf", "trap '' TERM; echo ready; while :; do sleep 0.1; done"))
	f.logged("deaf", "ready")
	f.stop("deaf")
	require.Equal(t, types.TrainingJobStatusStopped, f.finished("deaf").TrainingJobStatus)

	f.create(job("closed", "echo ready; while :; do sleep 0.1; done"))
	f.logged("closed", "ready")
	require.NoError(t, f.service.Close())
	program := strings.Fields(command)
	left, err := exec.CommandContext(t.Context(), program[0], append(program[1:], "ps", "-a", "-q", "--filter", "label=sagemaker-executor.local="+owner)...).Output()
	require.NoError(t, err)
	require.Empty(t, string(left))
}
