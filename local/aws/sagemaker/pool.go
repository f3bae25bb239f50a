package sagemaker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// Warm pool statuses.
const (
	poolAvailable  = "Available"
	poolInUse      = "InUse"
	poolReused     = "Reused"
	poolTerminated = "Terminated"
)

// Limits are the account's quotas and the sizes of its instances, as the file
// Options.Limits holds them.
type Limits struct {
	// Quotas is how many instances may be used at once, by instance type:
	// "ml.m5.xlarge" for training jobs, "spot:ml.m5.xlarge" for managed spot,
	// "warm-pool:ml.m5.xlarge" for warm pools. A type that is not listed has
	// no limit.
	Quotas map[string]int `json:"quotas"`
	// MemoryMiB is the memory of an instance type, when it shall be another
	// than AWS's.
	MemoryMiB map[string]int64 `json:"memory_mib"`
}

func loadLimits(path string) (*Limits, error) {
	l := new(Limits)
	if path == "" {
		return l, nil
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the limits: %w", err)
	}
	if err := json.Unmarshal(b, l); err != nil {
		return nil, fmt.Errorf("the limits in %s: %w", path, err)
	}
	return l, nil
}

// usage counts the instances of jobs that run, by quota. The caller holds s.mu.
func (s *Service) usage() map[string]int {
	used := map[string]int{}
	for _, j := range s.jobs {
		pooled := j.WarmPool != nil && (j.WarmPool.Status == poolAvailable || j.WarmPool.Status == poolInUse)
		for _, g := range j.req.ResourceConfig.groups() {
			switch {
			case !j.terminal() && j.req.EnableManagedSpotTraining:
				used["spot:"+g.InstanceType] += g.InstanceCount
			case !j.terminal():
				used[g.InstanceType] += g.InstanceCount
			}
			if pooled {
				used["warm-pool:"+g.InstanceType] += g.InstanceCount
			}
		}
	}
	return used
}

// checkQuota refuses a job for which the account's quota is too small, in
// AWS's words. The caller holds s.mu.
func (s *Service) checkQuota(l *Limits, req *trainingRequest, pool *job) error {
	used := s.usage()
	check := func(key, text string, count int) error {
		limit, ok := l.Quotas[key]
		if !ok || used[key]+count <= limit {
			return nil
		}
		return &APIError{Code: "ResourceLimitExceeded", Message: fmt.Sprintf("The account-level service limit '%s' is %d Instances, "+
			"with current utilization of %d Instances and a request delta of %d Instances. Please use AWS Service Quotas to request an increase for this quota. "+
			"If AWS Service Quotas is not available, contact AWS support to request an increase for this quota.", text, limit, used[key], count)}
	}
	for _, g := range req.ResourceConfig.groups() {
		key, text := g.InstanceType, g.InstanceType+" for training job usage"
		if req.EnableManagedSpotTraining {
			key, text = "spot:"+g.InstanceType, g.InstanceType+" for spot training job usage"
		}
		if err := check(key, text, g.InstanceCount); err != nil {
			return err
		}
		if req.ResourceConfig.KeepAlivePeriodInSeconds > 0 && pool == nil {
			if err := check("warm-pool:"+g.InstanceType, g.InstanceType+" for training warm pool usage", g.InstanceCount); err != nil {
				return err
			}
		}
	}
	return nil
}

// matchingPool finds a warm pool that a job can use: role, instances, volume,
// network and both switches have to be the same. The caller holds s.mu.
func (s *Service) matchingPool(req *trainingRequest) *job {
	if req.EnableManagedSpotTraining || len(req.ResourceConfig.InstanceGroups) > 0 {
		return nil
	}
	var oldest *job
	for _, j := range s.jobs {
		if j.WarmPool == nil || j.WarmPool.Status != poolAvailable || !poolMatches(j.req, req) {
			continue
		}
		if oldest == nil || j.Ended.time().Before(oldest.Ended.time()) {
			oldest = j
		}
	}
	return oldest
}

func poolMatches(a, b *trainingRequest) bool {
	ra, rb := &a.ResourceConfig, &b.ResourceConfig
	va, vb := a.VpcConfig, b.VpcConfig
	if (va == nil) != (vb == nil) || va != nil && !(sameSet(va.Subnets, vb.Subnets) && sameSet(va.SecurityGroupIds, vb.SecurityGroupIds)) {
		return false
	}
	return a.RoleArn == b.RoleArn && slices.Equal(ra.groups(), rb.groups()) &&
		ra.VolumeSizeInGB == rb.VolumeSizeInGB && ra.VolumeKmsKeyId == rb.VolumeKmsKeyId &&
		a.EnableNetworkIsolation == b.EnableNetworkIsolation &&
		a.EnableInterContainerTrafficEncryption == b.EnableInterContainerTrafficEncryption
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// endPool moves an available pool on to its last status. The caller holds s.mu.
func (s *Service) endPool(j *job, status, by string) {
	if j.pool != nil {
		j.pool.Stop()
		j.pool = nil
	}
	held := 0
	if j.Ended != nil {
		held = int(time.Since(j.Ended.time()).Seconds())
	}
	j.WarmPool = &warmPoolStatus{Status: status, ResourceRetainedBillableTimeInSeconds: &held, ReusedByJob: by}
	s.changed(j)
}

func (s *Service) reusePool(pool, by *job) { s.endPool(pool, poolReused, by.Name) }

// keepWarm keeps a finished job's instances. The caller holds s.mu.
func (s *Service) keepWarm(j *job, since time.Time) {
	keep := time.Duration(j.req.ResourceConfig.KeepAlivePeriodInSeconds) * time.Second
	left := time.Until(since.Add(keep))
	if keep == 0 || left <= 0 {
		s.endPool(j, poolTerminated, "")
		return
	}
	if j.pool != nil {
		j.pool.Stop()
	}
	j.WarmPool = &warmPoolStatus{Status: poolAvailable}
	j.pool = time.AfterFunc(left, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if j.WarmPool.Status == poolAvailable {
			s.endPool(j, poolTerminated, "")
		}
	})
	s.changed(j)
}
