package sagemaker

import (
	"context"
	"io/fs"
	"path/filepath"
	"sync"
	"time"
)

const (
	checkpointInterval = time.Second            // between two looks at the checkpoint directory
	spotInterval       = 100 * time.Millisecond // between two looks at a spot fault's conditions
)

// spotDue says whether this attempt is to be interrupted.
func (r *run) spotDue(interruptions int) bool {
	return r.req.EnableManagedSpotTraining && r.fault.Spot != nil && interruptions < max(1, r.fault.Spot.Times)
}

// spotMarker is the text whose appearance in the log interrupts the job.
func (r *run) spotMarker(interruptions int) string {
	if !r.spotDue(interruptions) {
		return ""
	}
	return r.fault.Spot.LogContains
}

// watch does what goes on beside the containers: checkpoints are synced and
// faults strike. The returned function ends it, after a last sync.
func (r *run) watch(ctx context.Context, cancel context.CancelCauseFunc, interruptions int) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, h := range r.hosts {
		if h.checkpoints == nil {
			continue
		}
		wg.Go(func() {
			every(done, checkpointInterval, func() { r.syncCheckpoints(h) })
			r.syncCheckpoints(h)
		})
	}
	begun := time.Now()
	if r.fault.Internal == internalAtTraining {
		timer := time.AfterFunc(time.Duration(r.fault.After), func() { cancel(&failure{internalError}) })
		wg.Go(func() { <-done; timer.Stop() })
	}
	if r.spotDue(interruptions) {
		wg.Go(func() {
			every(done, spotInterval, func() {
				if r.spotStrikes(ctx, begun) {
					cancel(errInterrupted)
				}
			})
		})
	}
	return func() {
		close(done)
		wg.Wait()
	}
}

func every(done <-chan struct{}, interval time.Duration, do func()) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
			do()
		}
	}
}

func (r *run) spotStrikes(ctx context.Context, begun time.Time) bool {
	f := r.fault.Spot
	if f.After > 0 && time.Since(begun) >= time.Duration(f.After) {
		return true
	}
	if f.Checkpoints > 0 && r.hosts[0].checkpoints != nil && countFiles(r.hosts[0].checkpoints.dir) >= f.Checkpoints {
		return true
	}
	if bucket, key, err := parseS3URI(f.Object); f.Object != "" && err == nil {
		body, err := r.s.opts.Objects(r.req.RoleArn).Open(ctx, bucket, key)
		if err == nil {
			body.Close()
			return true
		}
	}
	return false
}

func countFiles(dir string) int {
	n := 0
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return nil // a directory that has just gone counts nothing
	})
	return n
}
