package sagemaker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssagemaker "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

// transitions remembers which status changes were told.
type transitions struct {
	job  string
	told int
	last string
}

// tell reports the status changes that are new.
func (s *transitions) tell(r Reporter, d *awssagemaker.DescribeTrainingJobOutput) {
	if name := aws.ToString(d.TrainingJobName); s.job != name {
		*s = transitions{job: name}
	}
	all := d.SecondaryStatusTransitions
	// The newest entry's message changes while the status stays.
	for i := max(0, s.told-1); i < len(all); i++ {
		text := string(all[i].Status)
		if m := strings.TrimSpace(aws.ToString(all[i].StatusMessage)); m != "" {
			text += ": " + m
		}
		if i < s.told && text == s.last {
			continue
		}
		r.Line("Status %s", text)
		s.last, s.told = text, i+1
	}
}

// await waits for the first contact of a job's agent. Contact is looked for in
// the exchange, often; SageMaker is asked seldom, to tell people what is going
// on and to notice that there is no capacity or that the job has ended.
func (l *launch) await(ctx context.Context, job *Job, a Attempt) error {
	created := time.Now()
	contactPoll, describePoll := contactPollMin, describePollMin
	nextDescribe := created.Add(describePoll)
	for {
		there, err := l.Exchange.Contacted(ctx, a)
		if err != nil {
			return fmt.Errorf("look for the agent of %s: %w", job.Name, err)
		}
		if there {
			return nil
		}
		if !time.Now().Before(nextDescribe) {
			d, err := l.describe(ctx, job.Name)
			switch {
			case isNotFound(err): // not everywhere yet
			case err != nil:
				return err
			default:
				l.seen.tell(l.Report, d)
				if err := l.judgeStart(ctx, job, d, time.Since(created)); err != nil {
					return err
				}
			}
			describePoll = min(describePollMax, describePoll*3/2)
			nextDescribe = time.Now().Add(describePoll)
		}
		if err := sleep(ctx, contactPoll); err != nil {
			return err
		}
		contactPoll = min(contactPollMax, contactPoll*5/4)
	}
}

// judgeStart decides whether a job without contact has failed.
func (l *launch) judgeStart(ctx context.Context, job *Job, d *awssagemaker.DescribeTrainingJobOutput, waited time.Duration) error {
	if ended(d.TrainingJobStatus) {
		err := Judge(d)
		var end *EndError
		switch {
		case err == nil:
			return fmt.Errorf("training job %s completed without its agent ever showing up", job.Name)
		case errors.As(err, &end) && end.Ending == Capacity:
			return &CapacityError{InstanceType: job.InstanceType, Reason: end.Reason}
		}
		return err
	}
	waiting := d.SecondaryStatus == types.SecondaryStatusStarting || d.SecondaryStatus == types.SecondaryStatusPending
	if !waiting || waited < l.CapacityWait {
		return nil
	}
	l.Report.Warn("There is still no %s after %s: stopping %s", job.InstanceType, waited.Round(time.Second), job.Name)
	if err := l.Stop(ctx, job.Name); err != nil {
		return err
	}
	return &CapacityError{InstanceType: job.InstanceType, Reason: fmt.Sprintf("none came within %s", l.CapacityWait)}
}

// Beat tells how long an agent has not been heard of.
type Beat interface{ Silence() time.Duration }

// Attend watches a job while its agent works. As long as the agent is heard of
// it costs nothing; after SilentAfter SageMaker is asked. It returns
// the job's description when the job has ended, or ctx's error.
func (t *Training) Attend(ctx context.Context, name string, beat Beat) (*awssagemaker.DescribeTrainingJobOutput, error) {
	silent := t.SilentAfter
	if silent == 0 {
		silent = silenceAfter
	}
	for describePoll := describePollMin; ; {
		wait := min(silent-beat.Silence(), silenceLook)
		if wait > 0 {
			describePoll = describePollMin
		} else {
			d, err := t.describe(ctx, name)
			if err != nil {
				return nil, err
			}
			t.seen.tell(t.Report, d)
			if ended(d.TrainingJobStatus) {
				return d, nil
			}
			wait = min(silent, describePoll)
			describePoll = min(silenceDescribe, describePoll*3/2)
		}
		if err := sleep(ctx, max(wait, 100*time.Millisecond)); err != nil {
			return nil, err
		}
	}
}

const (
	silenceAfter    = 60 * time.Second
	silenceDescribe = 20 * time.Second
	silenceLook     = time.Second
)

// Wait returns a job's description once the job has ended.
func (t *Training) Wait(ctx context.Context, name string) (*awssagemaker.DescribeTrainingJobOutput, error) {
	for poll := endPollMin; ; poll = min(endPollMax, poll*3/2) {
		d, err := t.describe(ctx, name)
		if err != nil {
			return nil, err
		}
		t.seen.tell(t.Report, d)
		if ended(d.TrainingJobStatus) {
			return d, nil
		}
		if err := sleep(ctx, poll); err != nil {
			return nil, err
		}
	}
}

// Stopping tells whether SageMaker is stopping a job, or has ended it.
func (t *Training) Stopping(ctx context.Context, name string) (bool, error) {
	d, err := t.describe(ctx, name)
	if err != nil {
		return false, err
	}
	return d.TrainingJobStatus == types.TrainingJobStatusStopping || ended(d.TrainingJobStatus), nil
}

// Stop asks SageMaker to stop a job of this process's own. A job that has
// ended, or never was, is fine.
func (t *Training) Stop(ctx context.Context, name string) error {
	_, err := t.API.StopTrainingJob(ctx, &awssagemaker.StopTrainingJobInput{TrainingJobName: aws.String(name)})
	if err != nil && !isNotFound(err) && !isFinished(err) {
		return fmt.Errorf("stop training job %s: %w", name, err)
	}
	return nil
}

// ErrNoJob says that there is no job of a name, or none of this owner's.
var ErrNoJob = errors.New("no such training job of ours")

// Lookup finds a job by name for a clean-up. A job whose create is on its way
// may show up late, so a missing one is asked for again until patience has
// passed; then the error is ErrNoJob. A job of another owner's is ErrNoJob, too.
func (t *Training) Lookup(ctx context.Context, name string, patience time.Duration) (*awssagemaker.DescribeTrainingJobOutput, error) {
	until := time.Now().Add(patience)
	for poll := time.Second; ; poll = min(10*time.Second, poll*2) {
		d, err := t.describe(ctx, name)
		if err == nil {
			tags, err := t.tags(ctx, aws.ToString(d.TrainingJobArn))
			if err != nil {
				return nil, err
			}
			if !t.Owner.Owns(tags) {
				t.Report.Warn("Training job %s carries another owner's tags and is left alone", name)
				return nil, fmt.Errorf("%s: %w", name, ErrNoJob)
			}
			return d, nil
		}
		if !isNotFound(err) {
			return nil, err
		}
		if !time.Now().Add(poll).Before(until) {
			return nil, fmt.Errorf("%s: %w", name, ErrNoJob)
		}
		if err := sleep(ctx, poll); err != nil {
			return nil, err
		}
	}
}

// HasEnded tells whether a described job is over.
func HasEnded(d *awssagemaker.DescribeTrainingJobOutput) bool { return ended(d.TrainingJobStatus) }
