package executor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/remote"
)

const (
	// cleanupTimeout is below the hour that the runner gives to cleanup.
	cleanupTimeout = 50 * time.Minute
	// unsureFor is how long a job that was asked for may take to show up.
	unsureFor = 2 * time.Minute
	// stopTimeout: SageMaker sends SIGTERM, waits two minutes, and uploads.
	stopTimeout = 15 * time.Minute
)

// Cleanup is the stage cleanup: it stops what still runs, deletes the exchange
// and removes the job's directory. It can be repeated, and needs neither
// job_env nor the state: the trusted job leads to the intents in S3, and those
// to what was created. It has a deadline of its own, for it must do its work
// even when everything else was cancelled. Its output goes to the runner's
// log, not to the job's.
func Cleanup(ctx context.Context, o Stage) error {
	ctx, cancel := ignoreCancel(ctx, cleanupTimeout)
	defer cancel()
	s, err := open(o)
	if err != nil {
		return err
	}
	st, found, err := loadState(s.dirs.base)
	if err != nil { // a state that cannot be read is like none
		s.log.Warn("%v", err)
	}
	var awsErr error
	if !found || st.Asked {
		awsErr = s.cleanAWS(ctx)
	}
	return errors.Join(awsErr, s.cleanHost(ctx))
}

// cleanHost removes the job's directory. It goes last, and although AWS may be
// out of reach: without the state, the next cleanup looks into S3.
func (s *stage) cleanHost(ctx context.Context) error {
	return s.host.Cleanup(ctx)
}

// cleanAWS ends every attempt of the job that the exchange knows of.
func (s *stage) cleanAWS(ctx context.Context) error {
	c, err := s.aws(ctx)
	if err != nil {
		return err
	}
	found, err := remote.Intents(ctx, s.store(c), exchange.AttemptsPrefix(
		s.settings.Prefix, s.job.Instance, s.job.ProjectID, s.job.Protection(), s.job.ID))
	if err != nil {
		return fmt.Errorf("look for what the job created: %w", err)
	}
	var errs []error
	for _, attempt := range found {
		if err := s.cleanAttempt(ctx, c, attempt); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// cleanAttempt ends one attempt's training job and deletes its exchange. The
// exchange goes last: with it, the job's name would be forgotten.
func (s *stage) cleanAttempt(ctx context.Context, c *sagemaker.Clients, attempt remote.Attempt) error {
	r := remote.New(s.store(c), attempt.Keys, remote.Options{})
	aws := s.training(c)
	name := attempt.Intent.Name
	d, err := aws.Lookup(ctx, name, unsureFor)
	switch {
	case errors.Is(err, sagemaker.ErrNoJob):
	case err != nil:
		return err
	case !sagemaker.HasEnded(d):
		// An agent that was told to finish is packing or gone, and SageMaker
		// uploads the model: to stop now would lose it.
		finished, err := r.Finished(ctx)
		if err != nil {
			return err
		}
		if err := endJob(ctx, aws, name, finished); err != nil {
			return err
		}
	}
	return r.Delete(ctx)
}

// endJob waits for a job's end, after having it stopped unless it has been
// told to finish. A job that does not stop in time is left to SageMaker, which
// has accepted the request.
func endJob(ctx context.Context, aws *sagemaker.Training, name string, finished bool) error {
	if finished {
		_, err := aws.Wait(ctx, name)
		return err
	}
	if err := aws.Stop(ctx, name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if _, err := aws.Wait(ctx, name); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}
