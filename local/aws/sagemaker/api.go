package sagemaker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// timeNow is the time in the resolution of AWS's answers.
func timeNow() time.Time { return time.Now().Truncate(time.Millisecond) }

type createAnswer struct{ TrainingJobArn string }

func (s *Service) arn(name string) string {
	return fmt.Sprintf("arn:aws:sagemaker:%s:%s:training-job/%s", s.opts.Region, s.opts.Account, name)
}

func (s *Service) createTrainingJob(ctx context.Context, in *object) (*createAnswer, error) {
	if *in == nil {
		*in = object{}
	}
	req, err := typed(*in)
	if err != nil {
		return nil, &APIError{Code: "SerializationException", Message: err.Error()}
	}
	if req.TrainingJobName == "" {
		return nil, validation("1 validation error detected: Value null at 'trainingJobName' failed to satisfy constraint: Member must not be null")
	}
	if err := req.validate(); err != nil {
		return nil, err
	}
	if err := s.validateInputs(ctx, req); err != nil {
		return nil, err
	}
	limits, err := loadLimits(s.opts.Limits)
	if err != nil {
		return nil, err
	}
	now := epoch(timeNow())
	j := &job{req: req, record: record{
		Name: req.TrainingJobName, ARN: s.arn(req.TrainingJobName), Tags: req.Tags,
		Status: statusInProgress, Created: now, Modified: now,
	}}
	j.Request = clone(*in).(object)
	delete(j.Request, "TrainingJobName")
	delete(j.Request, "Tags")

	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ctx.Err(); err != nil {
		return nil, &APIError{Code: "ServiceUnavailable", Message: "the local SageMaker is shutting down", Status: 503}
	}
	if _, ok := s.jobs[j.Name]; ok {
		return nil, &APIError{Code: "ResourceInUse", Message: "Training job names must be unique within an AWS account and region, " +
			"and a training job with this name already exists (" + j.ARN + ")"}
	}
	pool := s.matchingPool(req)
	if err := s.checkQuota(limits, req, pool); err != nil {
		return nil, err
	}
	fault := s.takeFault(j)
	if fault.Capacity == capacityRefused {
		return nil, &APIError{Code: "CapacityError", Message: "Unable to provision requested ML compute capacity. Please retry using a different ML instance type."}
	}
	j.live = newMetrics(req.AlgorithmSpecification.MetricDefinitions)
	run := &run{s: s, j: j, req: req, fault: fault, limits: limits, metrics: j.live}
	if s.opts.Credentials != nil {
		run.credentials, err = s.opts.Credentials.Issue(req.RoleArn, j.Name)
		if err != nil {
			return nil, validation("Could not assume role %s. Please ensure that the role exists and allows principal 'sagemaker.amazonaws.com' to assume the role: %v", req.RoleArn, err)
		}
	}
	if pool != nil {
		s.reusePool(pool, j)
		run.warm = true
	}
	if req.ResourceConfig.KeepAlivePeriodInSeconds > 0 {
		j.WarmPool = &warmPoolStatus{Status: poolInUse}
	}
	runCtx, stop := context.WithCancelCause(s.ctx)
	j.stop = stop
	s.jobs[j.Name] = j
	s.transit(j, statusInProgress, secondaryStarting, messageStarting)
	s.wg.Go(func() {
		defer stop(nil)
		run.run(runCtx)
	})
	return &createAnswer{TrainingJobArn: j.ARN}, nil
}

// validateInputs refuses channels that hold nothing, as CreateTrainingJob does
// (aws/amazon-sagemaker-examples #2267).
func (s *Service) validateInputs(ctx context.Context, req *trainingRequest) error {
	store := s.opts.Objects(req.RoleArn)
	for i := range req.InputDataConfig {
		uri := req.InputDataConfig[i].DataSource.S3DataSource.S3Uri
		bucket, key, _ := parseS3URI(uri) // validated before
		found, err := store.List(ctx, bucket, key)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), err == nil && len(found) == 0:
			return validation("No S3 objects found under S3 URL %q given in input data source. Please ensure that the bucket exists in the selected region (%s), "+
				"that objects exist under that S3 prefix, and that the role %q has \"s3:ListBucket\" permissions on bucket %q.", uri, s.opts.Region, req.RoleArn, bucket)
		case err != nil:
			return fmt.Errorf("list %s: %w", uri, err)
		}
	}
	return nil
}

type jobName struct{ TrainingJobName string }

type noAnswer struct{}

// find returns a job. The caller holds s.mu.
func (s *Service) find(name string) (*job, error) {
	j, ok := s.jobs[name]
	if !ok {
		return nil, errNotFound()
	}
	return j, nil
}

func (s *Service) describeTrainingJob(_ context.Context, in *jobName) (*object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := s.find(in.TrainingJobName)
	if err != nil {
		return nil, err
	}
	d := s.describe(j)
	return &d, nil
}

// describe is the record with what changes by the second. The caller holds s.mu.
func (s *Service) describe(j *job) object {
	r := j.record
	r.Transitions = append([]transition(nil), j.Transitions...) // marshalled after the lock is gone
	r.Metrics = append([]metricData(nil), j.Metrics...)
	if j.live != nil {
		r.Metrics = j.live.final()
	}
	if j.WarmPool != nil {
		pool := *j.WarmPool
		if pool.Status == poolAvailable && j.Ended != nil {
			held := int(time.Since(j.Ended.time()).Seconds())
			pool.ResourceRetainedBillableTimeInSeconds = &held
		}
		r.WarmPool = &pool
	}
	return r.describe()
}

func (s *Service) stopTrainingJob(_ context.Context, in *jobName) (*noAnswer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := s.find(in.TrainingJobName)
	if err != nil {
		return nil, err
	}
	if j.terminal() {
		return nil, validation("The request was rejected because the training job is in status %s.", j.Status)
	}
	if j.Status != statusStopping {
		j.Status = statusStopping // the secondary status follows when the instances know
		s.changed(j)
		j.stop(errStopRequested)
	}
	return nil, nil
}

func (s *Service) deleteTrainingJob(_ context.Context, in *jobName) (*noAnswer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := s.find(in.TrainingJobName)
	if err != nil {
		return nil, err
	}
	if !j.terminal() {
		return nil, &APIError{Code: "ResourceInUse", Message: fmt.Sprintf("The training job %s cannot be deleted while it is in status %s.", j.Name, j.Status)}
	}
	if j.WarmPool != nil && j.WarmPool.Status == poolAvailable {
		return nil, &APIError{Code: "ResourceInUse", Message: fmt.Sprintf("The training job %s cannot be deleted while its warm pool is %s.", j.Name, poolAvailable)}
	}
	if err := s.forget(j); err != nil {
		return nil, err
	}
	return nil, nil
}
