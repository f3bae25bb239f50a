package sagemaker

import (
	"encoding/json"
	"fmt"
	"time"
)

// JobFault.Capacity.
const (
	capacityPending = "pending"
	capacityFailed  = "failed"
	capacityRefused = "refused"
)

// JobFault.Internal.
const (
	internalAtStart    = "start"
	internalAtTraining = "training"
	internalAtUpload   = "upload"
)

// JobFaults answers which faults were asked for. A nil JobFaults has none.
type JobFaults interface {
	// Take returns the fault that applies to a job that is about to be
	// created, and counts it as used. job is the CreateTrainingJob request as
	// sent, without its tags. Take must not call the Service.
	Take(job map[string]any) (JobFault, bool)
}

// JobFault is what shall go wrong with one job. The zero value is no fault.
type JobFault struct {
	// Capacity is "pending" (the job stays Pending until it is stopped or, with
	// Delay, that long), "failed" (it fails with CapacityError after Delay) or
	// "refused" (CreateTrainingJob answers CapacityError).
	Capacity string `json:"capacity,omitempty"`
	// Delay is added before the job has its instances.
	Delay Duration `json:"delay,omitempty"`
	// Internal fails the job with InternalServerError: at "start", in
	// "training" (After into it) or at "upload".
	Internal string   `json:"internal,omitempty"`
	After    Duration `json:"after,omitempty"`
	// Spot interrupts a managed spot job.
	Spot *SpotInterruption `json:"spot_interruption,omitempty"`
	// UploadDelay makes Uploading that much longer.
	UploadDelay Duration `json:"upload_delay,omitempty"`
	// UploadError fails the upload of the model, with this text in
	// "ClientError: Artifact upload failed:<text>".
	UploadError string `json:"upload_error,omitempty"`
}

// Validate refuses a fault that nothing here can do.
func (f *JobFault) Validate() error {
	switch f.Capacity {
	case "", capacityPending, capacityFailed, capacityRefused:
	default:
		return fmt.Errorf("capacity is %q; it may be %q, %q or %q", f.Capacity, capacityPending, capacityFailed, capacityRefused)
	}
	switch f.Internal {
	case "", internalAtStart, internalAtTraining, internalAtUpload:
	default:
		return fmt.Errorf("internal is %q; it may be %q, %q or %q", f.Internal, internalAtStart, internalAtTraining, internalAtUpload)
	}
	return nil
}

// SpotInterruption says when a spot instance is taken away. The first
// condition that holds counts.
type SpotInterruption struct {
	After       Duration `json:"after,omitempty"`        // time in Training
	LogContains string   `json:"log_contains,omitempty"` // a line of the log holds this text
	Object      string   `json:"object,omitempty"`       // s3://bucket/key exists
	Checkpoints int      `json:"checkpoints,omitempty"`  // that many files lie in the checkpoint directory
	Times       int      `json:"times,omitempty"`        // how often in one job; 0 means once
	// Wait is how long the job is Interrupted before an instance comes again;
	// negative for never, which ends in MaxWaitTimeExceeded.
	Wait Duration `json:"wait,omitempty"`
}

// Duration is a time.Duration that is "1m30s" in JSON.
type Duration time.Duration

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("a duration is text such as \"30s\": %w", err)
	}
	v, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// takeFault asks for the fault of a new job. The caller holds s.mu.
func (s *Service) takeFault(j *job) JobFault {
	if s.opts.Faults == nil {
		return JobFault{}
	}
	request := clone(j.Request).(object)
	request["TrainingJobName"] = j.Name
	fault, _ := s.opts.Faults.Take(request)
	return fault
}
