package sagemaker

import (
	"context"
	"encoding/json"
	"strconv"
	"time"
)

type updateRequest struct {
	TrainingJobName            string
	ProfilerConfig             object
	ProfilerRuleConfigurations []any
	ResourceConfig             *struct{ KeepAlivePeriodInSeconds *int }
	RemoteDebugConfig          object
}

// updateTrainingJob changes the keep-alive period, the profiler and the remote
// debugging of a job. Remote debugging can be switched while the job is
// Downloading or Training, the profiler while it is not terminal, the
// keep-alive period also while the warm pool is Available.
func (s *Service) updateTrainingJob(_ context.Context, in *updateRequest) (*createAnswer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := s.find(in.TrainingJobName)
	if err != nil {
		return nil, err
	}
	pooled := j.WarmPool != nil && j.WarmPool.Status == poolAvailable
	switch {
	case j.Status == statusStopping, j.terminal() && !(pooled && in.ResourceConfig != nil):
		return nil, validation("The request was rejected because the training job is in status %s.", j.Status)
	case j.terminal() && (in.ProfilerConfig != nil || in.ProfilerRuleConfigurations != nil || in.RemoteDebugConfig != nil):
		return nil, validation("The request was rejected because the training job is in status %s.", j.Status)
	case in.RemoteDebugConfig != nil && j.Secondary != secondaryDownloading && j.Secondary != secondaryTraining:
		return nil, validation("RemoteDebugConfig can be updated only while the secondary status of the training job is Downloading or Training; it is %s.", j.Secondary)
	}
	if in.ResourceConfig != nil && in.ResourceConfig.KeepAlivePeriodInSeconds != nil {
		if j.req.EnableManagedSpotTraining || len(j.req.ResourceConfig.InstanceGroups) > 0 {
			return nil, validation("KeepAlivePeriodInSeconds is not supported with managed spot training or heterogeneous clusters.")
		}
		s.updateKeepAlive(j, *in.ResourceConfig.KeepAlivePeriodInSeconds, pooled)
	}
	for member, value := range map[string]object{"ProfilerConfig": in.ProfilerConfig, "RemoteDebugConfig": in.RemoteDebugConfig} {
		if value == nil {
			continue
		}
		old, ok := j.Request[member].(object)
		if !ok {
			old = object{}
			j.Request[member] = old
		}
		for k, v := range value {
			old[k] = v
		}
	}
	if in.ProfilerRuleConfigurations != nil {
		j.Request["ProfilerRuleConfigurations"] = in.ProfilerRuleConfigurations
	}
	s.changed(j)
	return &createAnswer{TrainingJobArn: j.ARN}, nil
}

// updateKeepAlive sets the period. The caller holds s.mu.
func (s *Service) updateKeepAlive(j *job, seconds int, pooled bool) {
	j.req.ResourceConfig.KeepAlivePeriodInSeconds = seconds
	if rc, ok := j.Request["ResourceConfig"].(object); ok {
		rc["KeepAlivePeriodInSeconds"] = json.Number(strconv.Itoa(seconds))
	}
	switch {
	case pooled:
		since := time.Now()
		if j.Ended != nil {
			since = j.Ended.time()
		}
		s.keepWarm(j, since)
	case seconds > 0:
		j.WarmPool = &warmPoolStatus{Status: poolInUse}
	default:
		j.WarmPool = nil
	}
}
