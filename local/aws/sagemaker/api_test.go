package sagemaker

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssm "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/stretchr/testify/require"
)

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.objects.put("some/key", "x")
	s3 := func(uri string) []types.Channel {
		return []types.Channel{{ChannelName: aws.String("c"), DataSource: &types.DataSource{S3DataSource: &types.S3DataSource{
			S3DataType: types.S3DataTypeS3Prefix, S3Uri: aws.String(uri),
		}}}}
	}
	missing := func(uri, bucket string) string {
		return fmt.Sprintf(`ValidationException: No S3 objects found under S3 URL "%s" given in input data source. Please ensure that the bucket exists in the selected region (us-east-1), `+
			`that objects exist under that S3 prefix, and that the role "%s" has "s3:ListBucket" permissions on bucket "%s".`, uri, testRole, bucket)
	}
	for name, c := range map[string]struct {
		change func(*awssm.CreateTrainingJobInput)
		want   string
	}{
		"docker-hub": {
			func(in *awssm.CreateTrainingJobInput) {
				in.AlgorithmSpecification.TrainingImage = aws.String("python:3.12")
			},
			"ValidationException: TrainingImageConfig with TrainingRepositoryAccessMode set to VPC must be provided when using a training image from a private Docker registry.",
		},
		"public-ecr": {func(in *awssm.CreateTrainingJobInput) {
			in.AlgorithmSpecification.TrainingImage = aws.String("public.ecr.aws/docker/library/python:3.12")
		}, "TrainingRepositoryAccessMode"},
		"no-image":         {func(in *awssm.CreateTrainingJobInput) { in.AlgorithmSpecification.TrainingImage = nil }, "TrainingImage or AlgorithmName"},
		"max-wait-no-spot": {func(in *awssm.CreateTrainingJobInput) { in.StoppingCondition.MaxWaitTimeInSeconds = aws.Int32(900) }, "Invalid MaxWaitTimeInSeconds. It is supported only when EnableManagedSpotTraining is set to true"},
		"spot-no-max-wait": {func(in *awssm.CreateTrainingJobInput) { in.EnableManagedSpotTraining = aws.Bool(true) }, "It must be present and be greater than or equal to MaxRuntimeInSeconds"},
		"keep-alive-spot": {func(in *awssm.CreateTrainingJobInput) {
			*in = *spot("s", "", 600)
			in.ResourceConfig.KeepAlivePeriodInSeconds = aws.Int32(60)
		}, "KeepAlivePeriodInSeconds is not supported with managed spot training."},
		"no-instances": {func(in *awssm.CreateTrainingJobInput) { in.ResourceConfig.InstanceType = "" }, "InstanceType and InstanceCount"},
		"groups-and-type": {func(in *awssm.CreateTrainingJobInput) {
			in.ResourceConfig.InstanceGroups = []types.InstanceGroup{{InstanceGroupName: aws.String("g"), InstanceType: "ml.m5.large", InstanceCount: aws.Int32(1)}}
		}, "together with InstanceGroups"},
		"pending-cpu":      {func(in *awssm.CreateTrainingJobInput) { in.StoppingCondition.MaxPendingTimeInSeconds = aws.Int32(7200) }, "MaxPendingTimeInSeconds is not supported"},
		"empty-prefix":     {func(in *awssm.CreateTrainingJobInput) { in.InputDataConfig = s3("s3://bucket/none/") }, missing("s3://bucket/none/", "bucket")},
		"missing-bucket":   {func(in *awssm.CreateTrainingJobInput) { in.InputDataConfig = s3("s3://gone/x") }, missing("s3://gone/x", "gone")},
		"forbidden-bucket": {func(in *awssm.CreateTrainingJobInput) { in.InputDataConfig = s3("s3://secret/x") }, missing("s3://secret/x", "secret")},
		"pipe": {func(in *awssm.CreateTrainingJobInput) {
			in.InputDataConfig = s3("s3://bucket/some")
			in.InputDataConfig[0].InputMode = "Pipe"
		}, "has no Pipe mode"},
		"channel-twice": {func(in *awssm.CreateTrainingJobInput) {
			in.InputDataConfig = append(s3("s3://bucket/some"), s3("s3://bucket/some")...)
		}, `"c" is not unique`},
		"checkpoint-path": {func(in *awssm.CreateTrainingJobInput) {
			in.CheckpointConfig = &types.CheckpointConfig{S3Uri: aws.String("s3://bucket/c"), LocalPath: aws.String("/opt/ml/model/")}
		}, "LocalPath"},
		"metric-regex": {func(in *awssm.CreateTrainingJobInput) {
			in.AlgorithmSpecification.MetricDefinitions = []types.MetricDefinition{{Name: aws.String("m"), Regex: aws.String("(")}}
		}, "Invalid regular expression"},
		"output-not-s3": {func(in *awssm.CreateTrainingJobInput) {
			in.OutputDataConfig.S3OutputPath = aws.String("https://bucket/")
		}, "S3OutputPath"},
		"group-not-defined": {func(in *awssm.CreateTrainingJobInput) {
			in.InputDataConfig = s3("s3://bucket/some")
			in.InputDataConfig[0].DataSource.S3DataSource.InstanceGroupNames = []string{"g"}
		}, "instance group"},
	} {
		t.Run(name, func(t *testing.T) {
			in := request("refused", "true")
			c.change(in)
			_, err := f.client.CreateTrainingJob(t.Context(), in)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "StatusCode: 400")
		})
	}
	list, err := f.client.ListTrainingJobs(t.Context(), &awssm.ListTrainingJobsInput{})
	require.NoError(t, err)
	require.Empty(t, list.TrainingJobSummaries)
}

func TestErrorsOfMissingAndDuplicateJobs(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	name := aws.String("nope")
	notFound := "ValidationException: Requested resource not found."
	_, err := f.client.DescribeTrainingJob(t.Context(), &awssm.DescribeTrainingJobInput{TrainingJobName: name})
	require.ErrorContains(t, err, notFound)
	_, err = f.client.StopTrainingJob(t.Context(), &awssm.StopTrainingJobInput{TrainingJobName: name})
	require.ErrorContains(t, err, notFound)
	_, err = f.client.DeleteTrainingJob(t.Context(), &awssm.DeleteTrainingJobInput{TrainingJobName: name})
	require.ErrorContains(t, err, notFound)
	_, err = f.client.UpdateTrainingJob(t.Context(), &awssm.UpdateTrainingJobInput{TrainingJobName: name})
	require.ErrorContains(t, err, notFound)

	f.run(request("twice", "true"))
	_, err = f.client.CreateTrainingJob(t.Context(), request("twice", "true"))
	var inUse *types.ResourceInUse
	require.ErrorAs(t, err, &inUse)
	require.Equal(t, "Training job names must be unique within an AWS account and region, and a training job with this name already exists "+
		"(arn:aws:sagemaker:us-east-1:123456789012:training-job/twice)", inUse.ErrorMessage())

	_, err = f.client.DeleteTrainingJob(t.Context(), &awssm.DeleteTrainingJobInput{TrainingJobName: aws.String("twice")})
	require.NoError(t, err)
	require.Equal(t, types.TrainingJobStatusCompleted, f.run(request("twice", "true")).TrainingJobStatus)
}

// Everything that is sent comes back, also what no code here knows.
func TestDescribeEchoesTheRequest(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	sent := `{"TrainingJobName":"echo","RoleArn":"` + testRole + `",
		"AlgorithmSpecification":{"TrainingImage":"` + testImage + `","TrainingInputMode":"File","ContainerEntrypoint":["/bin/true"],"EnableSageMakerMetricsTimeSeries":true},
		"OutputDataConfig":{"S3OutputPath":"s3://bucket/out/","KmsKeyId":"key","CompressionType":"GZIP"},
		"ResourceConfig":{"InstanceType":"ml.m5.large","InstanceCount":1,"VolumeSizeInGB":30,"VolumeKmsKeyId":"k"},
		"StoppingCondition":{"MaxRuntimeInSeconds":86400},"VpcConfig":{"Subnets":["subnet-1"],"SecurityGroupIds":["sg-1"]},
		"DebugHookConfig":{"S3OutputPath":"s3://bucket/debug","CollectionConfigurations":[]},"ProfilerConfig":{"DisableProfiler":true},
		"ExperimentConfig":{"ExperimentName":"e","RunName":"r"},"RemoteDebugConfig":{"EnableRemoteDebug":false},"InfraCheckConfig":{"EnableInfraCheck":true},
		"TensorBoardOutputConfig":{"S3OutputPath":"s3://bucket/tb"},"Environment":{"A":"b"},"HyperParameters":{"x":"1"},
		"EnableNetworkIsolation":false,"EnableInterContainerTrafficEncryption":true,"EnableManagedSpotTraining":false,
		"SomethingNew":{"Deep":[1,2.50,"three"]}}`
	f.post("CreateTrainingJob", strings.Replace(sent, "{", `{"Tags":[{"Key":"k","Value":"v"}],`, 1))
	f.finished("echo")
	var want, got map[string]any
	require.NoError(t, json.Unmarshal([]byte(sent), &want))
	require.NoError(t, json.Unmarshal([]byte(f.post("DescribeTrainingJob", `{"TrainingJobName":"echo"}`)), &got))
	for k, v := range want {
		require.Equal(t, v, got[k], k)
	}
	require.NotContains(t, got, "Tags")
	require.NotContains(t, got, "CheckpointConfig")
	require.Equal(t, "Disabled", got["ProfilingStatus"])
}

func (f *fixture) post(operation, body string) string {
	f.Helper()
	r, err := http.NewRequestWithContext(f.Context(), http.MethodPost, f.url, strings.NewReader(body))
	require.NoError(f, err)
	r.Header.Set("X-Amz-Target", "SageMaker."+operation)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(f, err)
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	require.NoError(f, err)
	require.Equal(f, http.StatusOK, answer.StatusCode, string(b))
	require.Equal(f, "application/x-amz-json-1.1", answer.Header.Get("Content-Type"))
	return string(b)
}

func TestAnswersWithoutABody(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.create(request("empty", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"))
	f.logged("empty", "ready")
	require.Empty(t, f.post("StopTrainingJob", `{"TrainingJobName":"empty"}`))
	f.finished("empty")
	require.Empty(t, f.post("DeleteTrainingJob", `{"TrainingJobName":"empty"}`))
}

func TestUpdateTrainingJob(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.create(request("update", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"))
	f.logged("update", "ready")
	_, err := f.client.UpdateTrainingJob(t.Context(), &awssm.UpdateTrainingJobInput{
		TrainingJobName:   aws.String("update"),
		RemoteDebugConfig: &types.RemoteDebugConfigForUpdate{EnableRemoteDebug: aws.Bool(true)},
		ProfilerConfig:    &types.ProfilerConfigForUpdate{S3OutputPath: aws.String("s3://bucket/p")},
		ResourceConfig:    &types.ResourceConfigForUpdate{KeepAlivePeriodInSeconds: aws.Int32(60)},
	})
	require.NoError(t, err)
	d := f.describe("update")
	require.True(t, *d.RemoteDebugConfig.EnableRemoteDebug)
	require.Equal(t, "s3://bucket/p", *d.ProfilerConfig.S3OutputPath)
	require.EqualValues(t, 60, *d.ResourceConfig.KeepAlivePeriodInSeconds)
	require.Equal(t, types.WarmPoolResourceStatusInuse, d.WarmPoolStatus.Status)
	f.stop("update")
	require.Equal(t, types.WarmPoolResourceStatusAvailable, f.finished("update").WarmPoolStatus.Status)
	_, err = f.client.UpdateTrainingJob(t.Context(), &awssm.UpdateTrainingJobInput{
		TrainingJobName: aws.String("update"),
		ResourceConfig:  &types.ResourceConfigForUpdate{KeepAlivePeriodInSeconds: aws.Int32(0)},
	})
	require.NoError(t, err)
	require.Equal(t, types.WarmPoolResourceStatusTerminated, f.describe("update").WarmPoolStatus.Status)
	_, err = f.client.UpdateTrainingJob(t.Context(), &awssm.UpdateTrainingJobInput{
		TrainingJobName:   aws.String("update"),
		RemoteDebugConfig: &types.RemoteDebugConfigForUpdate{EnableRemoteDebug: aws.Bool(true)},
	})
	require.ErrorContains(t, err, "The request was rejected because the training job is in status Stopped.")
}

func TestWarmPools(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.StartDelay = 300 * time.Millisecond })
	warm := func(name string) *awssm.CreateTrainingJobInput {
		in := request(name, "ls -A /tmp; touch /tmp/left")
		in.ResourceConfig.KeepAlivePeriodInSeconds = aws.Int32(600)
		return in
	}
	f.create(warm("first"))
	require.Equal(t, types.WarmPoolResourceStatusInuse, f.describe("first").WarmPoolStatus.Status)
	d := f.finished("first")
	require.Equal(t, types.WarmPoolResourceStatusAvailable, d.WarmPoolStatus.Status)
	require.NotNil(t, d.WarmPoolStatus.ResourceRetainedBillableTimeInSeconds)
	_, err := f.client.DeleteTrainingJob(t.Context(), &awssm.DeleteTrainingJobInput{TrainingJobName: aws.String("first")})
	require.ErrorContains(t, err, "ResourceInUse")

	other := warm("other")
	other.ResourceConfig.VolumeSizeInGB = aws.Int32(2)
	require.Contains(t, secondaries(f.run(other)), "Pending")
	require.Equal(t, types.WarmPoolResourceStatusAvailable, f.describe("first").WarmPoolStatus.Status)

	second := f.run(warm("second"))
	require.Equal(t, []string{"Starting", "Downloading", "Training", "Uploading", "Completed"}, secondaries(second))
	reused := f.describe("first").WarmPoolStatus
	require.Equal(t, types.WarmPoolResourceStatusReused, reused.Status)
	require.Equal(t, "second", *reused.ReusedByJob)
	require.Empty(t, f.logs.lines("second", ""), "an instance is clean for the next job")
	list, err := f.client.ListTrainingJobs(t.Context(), &awssm.ListTrainingJobsInput{WarmPoolStatusEquals: types.WarmPoolResourceStatusReused})
	require.NoError(t, err)
	require.Len(t, list.TrainingJobSummaries, 1)
}

func TestQuotas(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.StartDelay = time.Hour })
	f.write("limits.json", `{"quotas": {"ml.m5.large": 2, "spot:ml.m5.large": 0, "warm-pool:ml.m5.large": 0}}`)
	text := func(what string, limit, used, delta int) string {
		return fmt.Sprintf("ResourceLimitExceeded: The account-level service limit '%s' is %d Instances, with current utilization of %d Instances and a request delta of %d Instances. "+
			"Please use AWS Service Quotas to request an increase for this quota.", what, limit, used, delta)
	}
	f.create(request("one", "true"))
	two := request("two", "true")
	two.ResourceConfig.InstanceCount = aws.Int32(2)
	_, err := f.client.CreateTrainingJob(t.Context(), two)
	require.ErrorContains(t, err, text("ml.m5.large for training job usage", 2, 1, 2))
	_, err = f.client.CreateTrainingJob(t.Context(), spot("spot", "true", 600))
	require.ErrorContains(t, err, text("ml.m5.large for spot training job usage", 0, 0, 1))
	warm := request("warm", "true")
	warm.ResourceConfig.KeepAlivePeriodInSeconds = aws.Int32(60)
	_, err = f.client.CreateTrainingJob(t.Context(), warm)
	require.ErrorContains(t, err, text("ml.m5.large for training warm pool usage", 0, 0, 1))
	f.stop("one")
	f.finished("one")
	f.create(two)
}

func TestRestartOfTheServer(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	in := request("done", "echo loss=1")
	in.Tags = []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}
	in.AlgorithmSpecification.MetricDefinitions = []types.MetricDefinition{{Name: aws.String("loss"), Regex: aws.String("loss=(.*)")}}
	before := f.run(in)
	f.create(request("running", "echo ready; exec sleep 300"))
	f.logged("running", "ready")
	require.NoError(t, f.service.Close())
	f.start(nil)
	after := f.describe("done")
	before.ResultMetadata = after.ResultMetadata
	require.Equal(t, before, after)
	d := f.describe("running")
	require.Equal(t, types.TrainingJobStatusFailed, d.TrainingJobStatus)
	require.Equal(t, internalError, *d.FailureReason)
	tags, err := f.client.ListTags(t.Context(), &awssm.ListTagsInput{ResourceArn: after.TrainingJobArn})
	require.NoError(t, err)
	require.Len(t, tags.Tags, 1)
}

func TestTwentyJobsAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for i := range 20 {
		f.create(request(fmt.Sprintf("many-%d", i), fmt.Sprintf("for i in 1 2 3; do echo %d; sleep 0.05; done; echo %d > /opt/ml/model/m", i, i)))
	}
	for i := range 20 {
		name := fmt.Sprintf("many-%d", i)
		require.Equal(t, types.TrainingJobStatusCompleted, f.finished(name).TrainingJobStatus)
		require.Equal(t, strings.Split(strings.Repeat(fmt.Sprintf("%d ", i), 3), " ")[:3], f.logs.lines(name, ""))
		require.Equal(t, map[string]string{"m": fmt.Sprintf("%d\n", i)}, f.archived("out/"+name+"/output/model.tar.gz"))
	}
}

func TestUnknownOperation(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	_, err := f.client.CreateModel(t.Context(), &awssm.CreateModelInput{ModelName: aws.String("m")})
	require.ErrorContains(t, err, "UnknownOperationException")
}
