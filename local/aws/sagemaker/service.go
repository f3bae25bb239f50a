// Package sagemaker is a SageMaker for one machine: the training-job part of
// AWS's API, with jobs that really run.
//
// It answers the JSON 1.1 protocol (X-Amz-Target: SageMaker.<Operation>), walks
// jobs through the documented statuses, copies channels from S3, runs the
// container's command through a container.Runtime, sends its output to
// CloudWatch Logs and uploads models, outputs and checkpoints. S3, CloudWatch
// Logs and credentials are reached through small interfaces, so that the
// package can be tested alone.
package sagemaker

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sagemaker/container"
)

// Object is one S3 object in a listing.
type Object struct {
	Key          string
	Size         int64
	ETag         string
	LastModified time.Time
}

// Objects is S3 as the platform uses it on behalf of a job. A missing bucket
// or key is an error that wraps fs.ErrNotExist, a denied one fs.ErrPermission.
type Objects interface {
	// List returns every object whose key starts with prefix, in key order.
	List(ctx context.Context, bucket, prefix string) ([]Object, error)
	Open(ctx context.Context, bucket, key string) (io.ReadCloser, error)
	// Put stores r, whose length is not known in advance.
	Put(ctx context.Context, bucket, key string, r io.Reader) error
	Delete(ctx context.Context, bucket, key string) error
}

// LogEvent is one line of a log.
type LogEvent struct {
	Time    time.Time
	Message string
}

// Logs is CloudWatch Logs as the platform uses it.
type Logs interface {
	// PutEvents appends to a stream; group and stream are created when missing.
	PutEvents(ctx context.Context, group, stream string, events []LogEvent) error
}

// Credentials hands out the execution role's credentials to containers.
type Credentials interface {
	// Issue returns the address, for AWS_CONTAINER_CREDENTIALS_FULL_URI, that
	// answers with credentials of role until Revoke(address).
	Issue(roleARN, session string) (address string, err error)
	Revoke(address string)
}

// JobFaults answers which faults were asked for. A nil JobFaults has none.
type JobFaults interface {
	// Take returns the fault that applies to a job that is about to start, and
	// counts it as used. job is the CreateTrainingJob request (JSON members as
	// sent) with what the platform fills in.
	Take(job map[string]any) (JobFault, bool)
}

// JobFault is what shall go wrong with one job. The zero value is no fault.
type JobFault struct {
	// Capacity: "pending" keeps the job Pending until it is stopped, or for
	// Delay and then lets it go on; "failed" fails it with CapacityError after
	// Delay.
	Capacity string `json:"capacity,omitempty"`
	// Delay is added before the job has its instances.
	Delay Duration `json:"delay,omitempty"`
	// Internal fails the job with InternalServerError: at "start", during
	// "training" (after After), or at "upload".
	Internal string   `json:"internal,omitempty"`
	After    Duration `json:"after,omitempty"`
	// Spot interrupts a managed-spot job.
	Spot *SpotInterruption `json:"spot_interruption,omitempty"`
	// UploadDelay makes the Uploading phase that much longer.
	UploadDelay Duration `json:"upload_delay,omitempty"`
	// UploadError fails the upload of the model with this text.
	UploadError string `json:"upload_error,omitempty"`
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
	// negative for never (until MaxWaitTimeExceeded).
	Wait Duration `json:"wait,omitempty"`
}

// Duration is a time.Duration that is written as "1m30s" in JSON.
type Duration time.Duration

// Options configure a Service. Data, Objects, Logs, Runtime are required.
type Options struct {
	Data    string // directory of this service's state: jobs and scratch space
	Region  string // default us-east-1
	Account string // default 000000000000

	Objects     func(roleARN string) Objects // S3 as seen by a role
	Logs        Logs
	Credentials Credentials // nil: containers get no credentials
	Faults      JobFaults   // nil: none
	Runtime     container.Runtime

	// EndpointURL is what containers get as AWS_ENDPOINT_URL. It is a function
	// because the port is known only once the server listens.
	EndpointURL func() string
	// CABundle is a PEM file: the authority of EndpointURL's certificate, when
	// that is not one that every system trusts. Containers find it through
	// AWS_CA_BUNDLE.
	CABundle string

	StartDelay  time.Duration // how long a job is Pending for its instances; a warm pool has none
	UploadDelay time.Duration // added to Uploading
	StopGrace   time.Duration // SIGTERM to SIGKILL; default 120 s, as AWS
	Quotas      Quotas        // per instance type; nil: unlimited
	Log         logrus.FieldLogger
}

// Quotas is the number of instances of a type that training jobs may use at
// once, by the quota's kind and instance type: "ml.m5.xlarge",
// "spot:ml.m5.xlarge" or "warm-pool:ml.m5.xlarge". A type that is not listed
// has no limit.
type Quotas map[string]int

var _ http.Handler = (*Service)(nil)
