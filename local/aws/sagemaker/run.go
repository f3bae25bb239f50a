package sagemaker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// spotDiscount is the part of the time on spot instances that is not billed.
// AWS's varies; the figure only has to make savings visible.
const spotDiscount = 0.7

// run is one job's way through its statuses.
type run struct {
	s           *Service
	j           *job
	req         *trainingRequest
	fault       JobFault
	limits      *Limits
	credentials string // AWS_CONTAINER_CREDENTIALS_FULL_URI
	warm        bool   // starts on instances of a warm pool

	metrics *metrics
	hosts   []*host
	trained time.Duration // time on instances, over all attempts
	ran     bool          // a container has run: there is something to upload
	stopped bool          // this run has entered Stopping
}

// failure ends a job with a FailureReason.
type failure struct{ reason string }

func (f *failure) Error() string { return f.reason }

func clientError(format string, a ...any) error {
	return &failure{"ClientError: " + fmt.Sprintf(format, a...)}
}

// run walks the job from Starting to a terminal status. ctx ends with a cause
// when the job shall end early.
func (r *run) run(ctx context.Context) {
	if c := r.req.StoppingCondition; c != nil && c.MaxWaitTimeInSeconds > 0 {
		left := time.Until(r.j.Created.time().Add(time.Duration(c.MaxWaitTimeInSeconds) * time.Second))
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, left, errMaxWait)
		defer cancel()
	}
	err := r.attempts(ctx)
	if isStop(err) {
		r.stopping()
	}
	if r.ran && r.s.ctx.Err() == nil && uploads(err) {
		if uploadErr := r.upload(); err == nil || isStop(err) {
			err = errors.Join(uploadErr, err)
		}
	}
	r.end(err)
	r.removeHosts()
	if r.credentials != "" {
		r.s.opts.Credentials.Revoke(r.credentials)
	}
}

// uploads says whether outputs are uploaded after this outcome: also when the
// job was stopped or its algorithm failed, not when the platform failed.
func uploads(err error) bool {
	var algorithm *algorithmError
	return err == nil || isStop(err) || errors.As(err, &algorithm)
}

func isStop(err error) bool {
	return errors.Is(err, errStopRequested) || errors.Is(err, errMaxRuntime) || errors.Is(err, errMaxWait)
}

// attempts trains, again after spot interruptions and, with a retry strategy,
// after internal errors.
func (r *run) attempts(ctx context.Context) error {
	interruptions, retries := 0, 0
	for {
		err := r.attempt(ctx, interruptions)
		switch {
		case errors.Is(err, errInterrupted):
			interruptions++
			if err := r.interrupted(ctx); err != nil {
				return err
			}
			r.s.set(r.j, "", secondaryStarting, messageStarting)
		case err != nil && err.Error() == internalError && r.req.RetryStrategy != nil && retries < r.req.RetryStrategy.MaximumRetryAttempts && ctx.Err() == nil:
			retries++
			r.fault.Internal = ""
			r.s.set(r.j, "", secondaryRestarting, messageRestarting)
		default:
			return err
		}
		r.removeHosts()
		r.warm = false
	}
}

// interrupted waits for the next spot instance.
func (r *run) interrupted(ctx context.Context) error {
	r.removeHosts()
	r.s.set(r.j, "", secondaryInterrupted, messageInterrupted)
	wait := time.Duration(r.fault.Spot.Wait)
	if wait < 0 {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return sleep(ctx, wait)
}

// attempt is one go from Starting to the end of Training.
func (r *run) attempt(ctx context.Context, interruptions int) error {
	if err := r.launch(ctx); err != nil {
		return err
	}
	begun := time.Now()
	r.s.mu.Lock()
	if r.j.Started == nil {
		now := epoch(begun)
		r.j.Started = &now
	}
	r.s.transit(r.j, "", secondaryDownloading, messageInput)
	r.s.mu.Unlock()
	defer func() { r.trained += time.Since(begun) }()

	left := time.Duration(r.req.maxRuntime())*time.Second - r.trained
	ctx, cancel := context.WithTimeoutCause(ctx, left, errMaxRuntime)
	defer cancel()
	if err := r.prepareHosts(ctx); err != nil {
		return stopOr(ctx, err)
	}
	r.s.set(r.j, "", secondaryDownloading, messageImage)
	if err := r.s.opts.Runtime.Check(ctx, r.req.AlgorithmSpecification.TrainingImage); err != nil {
		return stopOr(ctx, clientError("%v", err))
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	r.s.set(r.j, "", secondaryTraining, messageTraining)
	return r.train(ctx, interruptions)
}

// stopOr prefers the cause for which the job was ended early over what came of
// it.
func stopOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// launch waits for instances.
func (r *run) launch(ctx context.Context) error {
	f := &r.fault
	if r.warm && f.Capacity == "" && f.Delay == 0 && f.Internal != internalAtStart {
		return context.Cause(ctx)
	}
	delay := time.Duration(f.Delay)
	if !r.warm {
		delay += r.s.opts.StartDelay
	}
	if c := r.req.StoppingCondition; c != nil && c.MaxPendingTimeInSeconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(c.MaxPendingTimeInSeconds)*time.Second, errMaxPending)
		defer cancel()
	}
	if f.Capacity != "" || delay > 0 {
		message := messagePreparing
		if f.Capacity != "" {
			message = messageCapacity
		}
		r.s.set(r.j, "", secondaryPending, message)
	}
	err := sleep(ctx, delay)
	if f.Capacity == capacityPending && f.Delay == 0 {
		<-ctx.Done()
		err = context.Cause(ctx)
	}
	switch {
	case errors.Is(err, errMaxPending), err == nil && f.Capacity == capacityFailed:
		return &failure{"CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."}
	case err == nil && f.Internal == internalAtStart:
		return &failure{internalError}
	}
	if err == nil && f.Capacity != "" {
		r.s.set(r.j, "", secondaryPending, messagePreparing)
	}
	return err
}

// sleep waits; it returns the cause when ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stopping moves the job to Stopping once.
func (r *run) stopping() {
	if r.stopped {
		return
	}
	r.stopped = true
	r.s.set(r.j, statusStopping, secondaryStopping, messageStopping)
}

// upload sends model and outputs to S3.
func (r *run) upload() error {
	begun := time.Now()
	defer func() { r.trained += time.Since(begun) }()
	r.s.set(r.j, "", secondaryUploading, messageUploading)
	ctx := r.s.ctx // a stop does not interrupt the upload
	delay := r.s.opts.UploadDelay + time.Duration(r.fault.UploadDelay)
	if err := sleep(ctx, delay); err != nil {
		return err
	}
	switch {
	case r.fault.Internal == internalAtUpload:
		return &failure{internalError}
	case r.fault.UploadError != "":
		return clientError("Artifact upload failed:%s", r.fault.UploadError)
	}
	model, err := r.uploadOutputs(ctx)
	if err != nil {
		return clientError("Artifact upload failed:%v", err)
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.j.Model = model
	return nil
}

// end moves the job to its terminal status.
func (r *run) end(err error) {
	s, j := r.s, r.j
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.Started != nil {
		j.Training = max(1, int(r.trained.Round(time.Second).Seconds()))
		j.Billable = j.Training
		if r.req.EnableManagedSpotTraining {
			j.Billable = max(1, int(float64(j.Training)*(1-spotDiscount)))
		}
	}
	j.Metrics = r.metrics.final()
	var failed *failure
	var algorithm *algorithmError
	switch {
	case s.ctx.Err() != nil:
		j.FailureReason = internalError
		s.transit(j, statusFailed, statusFailed, messageFailed)
	case errors.As(err, &algorithm):
		j.FailureReason = algorithm.Error()
		s.transit(j, statusFailed, statusFailed, messageFailed)
	case errors.As(err, &failed):
		j.FailureReason = truncate(failed.reason, maxFailureReason)
		s.transit(j, statusFailed, statusFailed, messageFailed)
	case errors.Is(err, errMaxRuntime):
		s.transit(j, statusStopped, secondaryMaxRuntime, messageMaxRuntime)
	case errors.Is(err, errMaxWait):
		s.transit(j, statusStopped, secondaryMaxWait, messageMaxWait)
	case errors.Is(err, errStopRequested), err == nil && j.Status == statusStopping:
		s.transit(j, statusStopped, statusStopped, messageStopped)
	case err == nil:
		s.transit(j, statusCompleted, statusCompleted, messageCompleted)
	default:
		s.log.WithError(err).WithField("job", j.Name).Error("sagemaker: job failed in the platform")
		j.FailureReason = internalError
		s.transit(j, statusFailed, statusFailed, messageFailed)
	}
	if j.WarmPool != nil && j.WarmPool.Status == poolInUse {
		if j.Started == nil || s.ctx.Err() != nil || j.FailureReason == internalError {
			s.endPool(j, poolTerminated, "")
		} else {
			s.keepWarm(j, time.Now())
		}
	}
}

// jobDir is the job's scratch space, all hosts' together. A name may be used
// again as soon as its job is deleted, so the name alone is not enough.
func (r *run) jobDir() string {
	return filepath.Join(r.s.scratchDir(), fmt.Sprintf("%s.%d", r.j.Name, r.j.Created.time().UnixNano()))
}

// removeHosts gives the instances back: nothing of them is left.
func (r *run) removeHosts() {
	r.hosts, r.ran = nil, false
	if err := removeAll(r.jobDir()); err != nil && !os.IsNotExist(err) {
		r.s.log.WithError(err).WithField("job", r.j.Name).Warn("sagemaker: scratch space not removed")
	}
}
