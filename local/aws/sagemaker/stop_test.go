package sagemaker

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssm "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/stretchr/testify/require"
)

func (f *fixture) stop(name string) {
	f.Helper()
	_, err := f.client.StopTrainingJob(f.Context(), &awssm.StopTrainingJobInput{TrainingJobName: aws.String(name)})
	require.NoError(f, err)
}

func TestStopWhileTraining(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.create(request("stop", `trap 'echo got TERM; echo partial > /opt/ml/model/m; exit 0' TERM; echo ready; while :; do sleep 0.05; done`))
	f.logged("stop", "ready")
	f.stop("stop")
	d := f.finished("stop")
	require.Equal(t, types.TrainingJobStatusStopped, d.TrainingJobStatus)
	require.Equal(t, types.SecondaryStatusStopped, d.SecondaryStatus)
	require.Equal(t, []string{"Starting", "Downloading", "Training", "Stopping", "Uploading", "Stopped"}, secondaries(d))
	require.Contains(t, f.logs.lines("stop", ""), "got TERM")
	require.Equal(t, map[string]string{"m": "partial\n"}, f.archived("out/stop/output/model.tar.gz"))

	_, err := f.client.StopTrainingJob(t.Context(), &awssm.StopTrainingJobInput{TrainingJobName: aws.String("stop")})
	require.ErrorContains(t, err, "ValidationException: The request was rejected because the training job is in status Stopped.")
}

func TestStopKillsWhatIgnoresTerm(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.StopGrace = 200 * time.Millisecond })
	f.create(request("deaf", `trap '' TERM; (trap '' TERM; sleep 300) & echo ready; while :; do sleep 0.05; done`))
	f.logged("deaf", "ready")
	f.stop("deaf")
	require.Equal(t, types.TrainingJobStatusStopped, f.finished("deaf").TrainingJobStatus)
}

func TestStopBeforeThereAreInstances(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.StartDelay = time.Hour })
	f.create(request("early", "echo never"))
	f.until("early", func(d *awssm.DescribeTrainingJobOutput) bool {
		return d.SecondaryStatus == types.SecondaryStatusPending
	})
	f.stop("early")
	d := f.finished("early")
	require.Equal(t, types.TrainingJobStatusStopped, d.TrainingJobStatus)
	require.Equal(t, []string{"Starting", "Pending", "Stopping", "Stopped"}, secondaries(d))
	require.Nil(t, d.TrainingStartTime)
	require.Nil(t, d.BillableTimeInSeconds)
	require.Empty(t, f.logs.lines("early", ""))
	_, uploaded := f.objects.get("out/early/output/model.tar.gz")
	require.False(t, uploaded)
}

func TestStopWhileUploading(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.UploadDelay = 300 * time.Millisecond })
	f.create(request("late", "echo m > /opt/ml/model/m"))
	f.until("late", func(d *awssm.DescribeTrainingJobOutput) bool {
		return d.SecondaryStatus == types.SecondaryStatusUploading
	})
	f.stop("late")
	require.Equal(t, types.TrainingJobStatusStopping, f.describe("late").TrainingJobStatus)
	d := f.finished("late")
	require.Equal(t, types.TrainingJobStatusStopped, d.TrainingJobStatus)
	require.Contains(t, f.archived("out/late/output/model.tar.gz"), "m")
}

func TestMaxRuntime(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	in := request("slow", "exec sleep 300")
	in.StoppingCondition.MaxRuntimeInSeconds = aws.Int32(1)
	d := f.run(in)
	require.Equal(t, types.TrainingJobStatusStopped, d.TrainingJobStatus)
	require.Equal(t, types.SecondaryStatusMaxRuntimeExceeded, d.SecondaryStatus)
	require.Equal(t, []string{"Starting", "Downloading", "Training", "Stopping", "Uploading", "MaxRuntimeExceeded"}, secondaries(d))
}

func spot(name, script string, maxWait int32) *awssm.CreateTrainingJobInput {
	in := request(name, script)
	in.EnableManagedSpotTraining = aws.Bool(true)
	in.StoppingCondition = &types.StoppingCondition{MaxRuntimeInSeconds: aws.Int32(min(600, maxWait)), MaxWaitTimeInSeconds: aws.Int32(maxWait)}
	return in
}

func withFault(fault JobFault) func(*Options) {
	return func(o *Options) {
		o.Faults = faultFunc(func(job map[string]any) (JobFault, bool) {
			return fault, job["TrainingJobName"] != ""
		})
	}
}

func TestSpotInterruptionAndCheckpoints(t *testing.T) {
	t.Parallel()
	script := `cd /opt/ml/checkpoints
if [ -e step-2 ]; then echo "resumed with $(ls | tr '\n' ' ')"; rm step-1; echo 3 > step-3; exit 0; fi
echo 1 > step-1; mkdir sub; echo s > sub/s
trap 'echo 2 > step-2; exit 0' TERM
echo MARK; while :; do sleep 0.05; done`
	for name, fault := range map[string]SpotInterruption{
		"log":         {LogContains: "MARK"},
		"checkpoints": {Checkpoints: 2},
		"after":       {After: Duration(1500 * time.Millisecond)},
		"object":      {Object: "s3://bucket/ckpt/sub/s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, withFault(JobFault{Spot: &fault}))
			in := spot(name, script, 600)
			in.CheckpointConfig = &types.CheckpointConfig{S3Uri: aws.String("s3://bucket/ckpt")}
			d := f.run(in)
			require.Equal(t, types.TrainingJobStatusCompleted, d.TrainingJobStatus, "%v %q", aws.ToString(d.FailureReason), f.logs.lines(name, ""))
			require.Equal(t, []string{"Starting", "Downloading", "Training", "Interrupted", "Starting", "Downloading", "Training", "Uploading", "Completed"}, secondaries(d))
			require.Contains(t, f.logs.lines(name, ""), "resumed with step-1 step-2 sub ")
			require.Less(t, *d.BillableTimeInSeconds, *d.TrainingTimeInSeconds+1)
			for key, want := range map[string]string{"ckpt/step-2": "2\n", "ckpt/step-3": "3\n", "ckpt/sub/s": "s\n", "ckpt/step-1": ""} {
				got, _ := f.objects.get(key)
				require.Equal(t, want, got, key)
			}
		})
	}
}

func TestCheckpointsAreSentWhileTheJobRuns(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.objects.put("ckpt/old", "from before")
	in := request("live", "cat /ckpt/old; rm /ckpt/old; echo new > /ckpt/new; until [ -e /ckpt/never ]; do sleep 0.05; done")
	in.CheckpointConfig = &types.CheckpointConfig{S3Uri: aws.String("s3://bucket/ckpt/"), LocalPath: aws.String("/ckpt")}
	f.create(in)
	f.until("live", func(*awssm.DescribeTrainingJobOutput) bool {
		text, _ := f.objects.get("ckpt/new")
		_, old := f.objects.get("ckpt/old")
		return text == "new\n" && !old
	})
	f.stop("live")
	f.finished("live")
	require.Equal(t, "from before", f.logs.lines("live", "")[0])
}

func TestMaxWait(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withFault(JobFault{Spot: &SpotInterruption{LogContains: "here", Wait: -1}}))
	in := spot("waits", "trap 'exit 0' TERM; echo here; while :; do sleep 0.05; done", 2)
	d := f.run(in)
	require.Equal(t, types.TrainingJobStatusStopped, d.TrainingJobStatus)
	require.Equal(t, types.SecondaryStatusMaxWaitTimeExceeded, d.SecondaryStatus)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault    JobFault
		reason   string
		statuses string
	}{
		"capacity-failed":   {JobFault{Capacity: "failed"}, "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type.", "Starting Pending Failed"},
		"capacity-late":     {JobFault{Capacity: "pending", Delay: Duration(time.Millisecond)}, "", "Starting Pending Downloading Training Uploading Completed"},
		"slow-start":        {JobFault{Delay: Duration(time.Millisecond)}, "", "Starting Pending Downloading Training Uploading Completed"},
		"internal-start":    {JobFault{Internal: "start"}, internalError, "Starting Failed"},
		"internal-training": {JobFault{Internal: "training"}, internalError, "Starting Downloading Training Failed"},
		"internal-upload":   {JobFault{Internal: "upload"}, internalError, "Starting Downloading Training Uploading Failed"},
		"upload-error":      {JobFault{UploadError: "Out of Memory"}, "ClientError: Artifact upload failed:Out of Memory", "Starting Downloading Training Uploading Failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, c.fault.Validate())
			f := newFixture(t, withFault(c.fault))
			script := "true"
			if c.fault.Internal == "training" {
				script = "exec sleep 60"
			}
			d := f.run(request(name, script))
			require.Equal(t, c.reason, aws.ToString(d.FailureReason))
			require.Equal(t, c.statuses, strings.Join(secondaries(d), " "))
		})
	}
}

func TestCapacityNeverComes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withFault(JobFault{Capacity: "pending"}))
	f.create(request("never", "true"))
	d := f.until("never", func(d *awssm.DescribeTrainingJobOutput) bool {
		return d.SecondaryStatus == types.SecondaryStatusPending
	})
	require.Equal(t, "Training job waiting for capacity", *d.SecondaryStatusTransitions[1].StatusMessage)
	f.stop("never")
	require.Equal(t, types.TrainingJobStatusStopped, f.finished("never").TrainingJobStatus)
}

func TestCapacityRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withFault(JobFault{Capacity: "refused"}))
	_, err := f.client.CreateTrainingJob(t.Context(), request("refused", "true"))
	require.ErrorContains(t, err, "CapacityError: Unable to provision requested ML compute capacity.")
	_, err = f.client.DescribeTrainingJob(t.Context(), &awssm.DescribeTrainingJobInput{TrainingJobName: aws.String("refused")})
	require.ErrorContains(t, err, "ValidationException: Requested resource not found.")
}

func TestRetryStrategy(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withFault(JobFault{Internal: "start"}))
	in := request("retried", "echo ran")
	in.RetryStrategy = &types.RetryStrategy{MaximumRetryAttempts: aws.Int32(1)}
	d := f.run(in)
	require.Equal(t, types.TrainingJobStatusCompleted, d.TrainingJobStatus)
	require.Equal(t, []string{"Starting", "Restarting", "Downloading", "Training", "Uploading", "Completed"}, secondaries(d))
}
