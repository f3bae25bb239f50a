package gitlab

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"
)

// State is the status of a job, in GitLab's words.
type State string

// The states of a job, in GitLab's words.
const (
	StatePending   State = "pending"
	StateRunning   State = "running"
	StateCanceling State = "canceling"
	StateSuccess   State = "success"
	StateFailed    State = "failed"
	StateCanceled  State = "canceled"
)

// Final reports whether a job in this state has ended.
func (s State) Final() bool {
	return s == StateSuccess || s == StateFailed || s == StateCanceled
}

// Result is how a job ended.
type Result struct {
	State         State
	FailureReason string // "script_failure", ...; empty after success
	ExitCode      int    // of the script; 0 where the runner named none
	Started       time.Time
	Finished      time.Time
}

// Job is a job that was enqueued. Its methods may be called at any time and
// from several goroutines.
type Job struct {
	payload Payload

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced at every change
	state     State
	result    Result
	released  bool
	trace     []byte
	artifacts []*StoredArtifact
	info      map[string]any
}

func newJob(payload Payload) *Job {
	return &Job{payload: payload, state: StatePending, changed: make(chan struct{})}
}

// ID is the job's id, unique within the coordinator.
func (j *Job) ID() int64 { return j.payload.ID }

// Name is the job's name.
func (j *Job) Name() string { return j.payload.JobInfo.Name }

// Token is the job's token (CI_JOB_TOKEN).
func (j *Job) Token() string { return j.payload.Token }

// Payload is the job as the runner gets it, everything filled in.
func (j *Job) Payload() Payload { return j.payload }

// State is the job's state now.
func (j *Job) State() State {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state
}

// Trace is the job log as far as it has come: raw bytes, with escape sequences
// and section markers.
func (j *Job) Trace() []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return bytes.Clone(j.trace)
}

// Dependency is what another job's payload needs to download this one's archive.
// It is false while there is no archive.
func (j *Job) Dependency() (Dependency, bool) {
	archive, ok := j.Artifact(ArtifactArchive)
	if !ok {
		return Dependency{}, false
	}
	return Dependency{
		ID: j.ID(), Token: j.Token(), Name: j.Name(),
		ArtifactsFile: DependencyFile{Filename: archive.Filename, Size: archive.Size},
	}, true
}

// RunnerInfo is the "info" member of the runner's last update: version,
// executor, features.
func (j *Job) RunnerInfo() map[string]any {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.info
}

// Wait waits until the job has ended, as GitLab shows it: a job that was force
// cancelled has ended at once, though the runner may still be at it.
func (j *Job) Wait(ctx context.Context) (Result, error) {
	err := j.until(ctx, "ended", func() bool { return j.state.Final() })
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.result, err
}

// WaitReleased waits until the runner is done with the job: it sent its last
// update, which comes after the executor's clean-up.
func (j *Job) WaitReleased(ctx context.Context) error {
	return j.until(ctx, "been released by the runner", func() bool { return j.released })
}

// WaitTrace waits until the job log holds the text, and fails when the job ends
// without it.
func (j *Job) WaitTrace(ctx context.Context, text string) error {
	var found bool
	err := j.until(ctx, fmt.Sprintf("logged %q", text), func() bool {
		found = bytes.Contains(j.trace, []byte(text))
		return found || j.released || (j.state.Final() && j.state != StateCanceled)
	})
	if err == nil && !found {
		return fmt.Errorf("job %d (%s) ended without %q in its log", j.ID(), j.Name(), text)
	}
	return err
}

// Follow copies the job log to w as it comes, from the beginning until the job
// has ended or ctx is done.
func (j *Job) Follow(ctx context.Context, w io.Writer) error {
	offset := 0
	for {
		j.mu.Lock()
		chunk, final, changed := bytes.Clone(j.trace[offset:]), j.state.Final(), j.changed
		j.mu.Unlock()
		if _, err := w.Write(chunk); err != nil {
			return fmt.Errorf("follow the log of job %d: %w", j.ID(), err)
		}
		offset += len(chunk)
		if final {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Cancel cancels the job as the button on GitLab's job page does. A running job
// becomes canceling: the runner stops the script and still runs after_script.
// With force (the button's second press) it is canceled at once and the runner
// drops everything when it next calls. A job that no runner has yet is canceled
// either way.
func (j *Job) Cancel(force bool) {
	j.update(func() {
		switch {
		case j.state.Final():
		case j.state == StatePending:
			j.released = true
			j.finish(StateCanceled, "job_canceled", 0)
		case force:
			j.finish(StateCanceled, "job_canceled", 0)
		default:
			j.state = StateCanceling
		}
	})
}

// update changes the job and wakes all who wait for it.
func (j *Job) update(change func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change()
	close(j.changed)
	j.changed = make(chan struct{})
}

// finish is called with the lock held.
func (j *Job) finish(state State, reason string, exitCode int) {
	j.state = state
	j.result.State, j.result.FailureReason, j.result.ExitCode = state, reason, exitCode
	j.result.Finished = time.Now()
}

// start marks the job as running; false when it was cancelled meanwhile.
func (j *Job) start() (started bool) {
	j.update(func() {
		if j.state == StatePending {
			j.state, j.result.Started, started = StateRunning, time.Now(), true
		}
	})
	return started
}

func (j *Job) until(ctx context.Context, what string, done func() bool) error {
	for {
		j.mu.Lock()
		ok, changed, state := done(), j.changed, j.state
		j.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("job %d (%s) has not %s, it is %s: %w", j.ID(), j.Name(), what, state, ctx.Err())
		}
	}
}

// checksum is what the runner sends as output.checksum (helpers/trace).
func (j *Job) checksum() string {
	return fmt.Sprintf("crc32:%08x", crc32.ChecksumIEEE(j.trace))
}
