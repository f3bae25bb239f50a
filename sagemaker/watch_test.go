package sagemaker

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssagemaker "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestJudge(t *testing.T) {
	t.Parallel()

	failed := func(reason string) *awssagemaker.DescribeTrainingJobOutput {
		return &awssagemaker.DescribeTrainingJobOutput{
			TrainingJobStatus: types.TrainingJobStatusFailed, SecondaryStatus: types.SecondaryStatusFailed, FailureReason: aws.String(reason),
		}
	}
	stopped := func(s types.SecondaryStatus, before ...types.SecondaryStatus) *awssagemaker.DescribeTrainingJobOutput {
		d := &awssagemaker.DescribeTrainingJobOutput{
			TrainingJobStatus: types.TrainingJobStatusStopped, SecondaryStatus: s,
			StoppingCondition: &types.StoppingCondition{MaxRuntimeInSeconds: aws.Int32(3600), MaxWaitTimeInSeconds: aws.Int32(7200)},
		}
		for _, s := range before {
			d.SecondaryStatusTransitions = append(d.SecondaryStatusTransitions, types.SecondaryStatusTransition{Status: s})
		}
		return d
	}
	tests := map[string]struct {
		job  *awssagemaker.DescribeTrainingJobOutput
		want Ending
		says string
	}{
		"max runtime": {stopped(types.SecondaryStatusMaxRuntimeExceeded), MaxRuntime, "MaxRuntimeInSeconds (1h0m0s)"},
		"max runtime, seen in the history only": {
			stopped(types.SecondaryStatusStopped, types.SecondaryStatusTraining, types.SecondaryStatusMaxRuntimeExceeded), MaxRuntime, "1h0m0s",
		},
		"max wait":       {stopped(types.SecondaryStatusMaxWaitTimeExceeded), MaxWait, "MaxWaitTimeInSeconds (2h0m0s)"},
		"stopped":        {stopped(types.SecondaryStatusStopped), Stopped, "stopped from outside"},
		"capacity":       {failed("CapacityError: Unable to provision"), Capacity, "CapacityError: Unable to provision"},
		"internal":       {failed("InternalServerError: We encountered an internal error. Please try again."), Internal, "Please try again."},
		"client":         {failed("ClientError: Artifact upload failed:Error 7"), Client, "Artifact upload failed:Error 7"},
		"algorithm":      {failed("AlgorithmError: , exit code: 1"), Algorithm, "exit code: 1"},
		"unknown":        {failed("A new kind of trouble"), Internal, "A new kind of trouble"},
		"without reason": {failed(""), Internal, "no reason"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.job.TrainingJobName = aws.String("job-1")
			err := Judge(tt.job)
			var end *EndError
			require.ErrorAs(t, err, &end)
			assert.Equal(t, tt.want, end.Ending)
			assert.ErrorContains(t, err, "job-1")
			assert.ErrorContains(t, err, tt.says)
		})
	}
	assert.NoError(t, Judge(&awssagemaker.DescribeTrainingJobOutput{TrainingJobStatus: types.TrainingJobStatusCompleted}))
}

// story is a SageMaker with one job whose life is a table of times.
type story struct {
	fakeAWS
	mu        sync.Mutex
	start     time.Time
	after     []chapter
	describes int
}

type chapter struct {
	at      time.Duration
	status  types.TrainingJobStatus
	second  types.SecondaryStatus
	message string
}

func (s *story) DescribeTrainingJob(context.Context, *awssagemaker.DescribeTrainingJobInput, ...func(*awssagemaker.Options)) (*awssagemaker.DescribeTrainingJobOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.describes++
	d := &awssagemaker.DescribeTrainingJobOutput{TrainingJobName: aws.String("job-1")}
	for _, c := range s.after {
		if time.Since(s.start) < c.at {
			break
		}
		d.TrainingJobStatus, d.SecondaryStatus = c.status, c.second
		all := d.SecondaryStatusTransitions
		if n := len(all); n > 0 && all[n-1].Status == c.second {
			all[n-1].StatusMessage = aws.String(c.message)
			continue
		}
		d.SecondaryStatusTransitions = append(all, types.SecondaryStatusTransition{Status: c.second, StatusMessage: aws.String(c.message)})
	}
	return d, nil
}

// pulse is a beat that was last heard at a time of the test's clock.
type pulse func() time.Time

func (p pulse) Silence() time.Duration { return time.Since(p()) }

func TestAttendAsksSageMakerOnlyWhenTheAgentIsSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		report := &lines{}
		start := time.Now()
		s := &story{start: start, after: []chapter{
			{0, types.TrainingJobStatusInProgress, types.SecondaryStatusTraining, "in progress"},
			{62 * time.Minute, types.TrainingJobStatusInProgress, types.SecondaryStatusInterrupted, "spot"},
			{65 * time.Minute, types.TrainingJobStatusStopped, types.SecondaryStatusStopped, "stopped"},
		}}
		tr := &Training{API: s, Report: report}
		heard := func() time.Time { // for an hour, then never again
			return start.Add(min(time.Since(start), time.Hour))
		}
		d, err := tr.Attend(t.Context(), "job-1", pulse(heard))
		require.NoError(t, err)
		assert.Equal(t, types.TrainingJobStatusStopped, d.TrainingJobStatus)
		assert.LessOrEqual(t, time.Since(start), 66*time.Minute)
		assert.LessOrEqual(t, s.describes, 4*6, "under four a minute, and none while the agent was heard")
		assert.Contains(t, report.String(), "Interrupted: spot")
	})
}

func TestWaitTellsEachStatusOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		report := &lines{}
		s := &story{start: time.Now(), after: []chapter{
			{0, types.TrainingJobStatusInProgress, types.SecondaryStatusTraining, "Training"},
			{time.Second, types.TrainingJobStatusInProgress, types.SecondaryStatusUploading, "Uploading"},
			{10 * time.Second, types.TrainingJobStatusInProgress, types.SecondaryStatusUploading, "Uploading generated training model"},
			{10 * time.Minute, types.TrainingJobStatusCompleted, types.SecondaryStatusCompleted, "Training job completed"},
		}}
		d, err := (&Training{API: s, Report: report}).Wait(t.Context(), "job-1")
		require.NoError(t, err)
		require.NoError(t, Judge(d))
		assert.Equal(t, []string{
			"Status Training: Training", "Status Uploading: Uploading",
			"Status Uploading: Uploading generated training model", "Status Completed: Training job completed",
		}, report.all)
		assert.LessOrEqual(t, s.describes, 60)
	})
}

func TestLookup(t *testing.T) {
	t.Parallel()
	owner := Owner{Instance: "i", ProjectID: 7, JobID: 1}
	tagged := func(o Owner) *fakeJob {
		return &fakeJob{in: &awssagemaker.CreateTrainingJobInput{Tags: must(o.Tags(nil)), ResourceConfig: &types.ResourceConfig{}}}
	}
	tests := map[string]struct {
		job   *fakeJob
		after time.Duration // when it shows up
		found bool
		took  time.Duration
	}{
		"there":                    {tagged(owner), 0, true, 0},
		"shows up late":            {tagged(owner), 90 * time.Second, true, 100 * time.Second},
		"never":                    {nil, 0, false, 2 * time.Minute},
		"another owner's":          {tagged(Owner{Instance: "i", ProjectID: 7, JobID: 2}), 0, false, 0},
		"somebody's, without tags": {&fakeJob{in: &awssagemaker.CreateTrainingJobInput{Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}, ResourceConfig: &types.ResourceConfig{}}}, 0, false, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &fakeAWS{jobs: map[string]*fakeJob{}}
				if tt.job != nil {
					time.AfterFunc(tt.after, func() {
						f.mu.Lock()
						defer f.mu.Unlock()
						f.jobs["job-1"] = tt.job
					})
					synctest.Wait()
				}
				start := time.Now()
				d, err := (&Training{API: f, Owner: owner, Report: &lines{}}).Lookup(t.Context(), "job-1", 2*time.Minute)
				assert.LessOrEqual(t, time.Since(start), tt.took)
				if !tt.found {
					assert.ErrorIs(t, err, ErrNoJob)
					return
				}
				require.NoError(t, err)
				assert.False(t, HasEnded(d))
			})
		})
	}
}

func TestStopIsContentWithJobsThatHaveEndedOrNeverWere(t *testing.T) {
	t.Parallel()
	f := &fakeAWS{jobs: map[string]*fakeJob{"job-1": {in: &awssagemaker.CreateTrainingJobInput{}}}}
	tr := &Training{API: f}
	for range 2 {
		require.NoError(t, tr.Stop(t.Context(), "job-1"))
	}
	require.NoError(t, tr.Stop(t.Context(), "job-2"))
	assert.Equal(t, []string{"job-1", "job-1", "job-2"}, f.stopped)
}

func TestDescribeResources(t *testing.T) {
	t.Parallel()
	in := &awssagemaker.CreateTrainingJobInput{
		EnableManagedSpotTraining: aws.Bool(true),
		ResourceConfig: &types.ResourceConfig{
			InstanceType: "ml.m5.large", InstanceCount: aws.Int32(2), VolumeSizeInGB: aws.Int32(30), KeepAlivePeriodInSeconds: aws.Int32(600),
		},
	}
	assert.Equal(t, "2 × ml.m5.large, 30 GB volume, spot, kept warm for 10m0s", describeResources(in))
	in.ResourceConfig = &types.ResourceConfig{InstanceGroups: []types.InstanceGroup{
		{InstanceType: "ml.a", InstanceCount: aws.Int32(1)}, {InstanceType: "ml.b", InstanceCount: aws.Int32(3)},
	}}
	assert.Equal(t, fmt.Sprintf("%d × ml.a, %d × ml.b, spot", 1, 3), describeResources(in))
}
