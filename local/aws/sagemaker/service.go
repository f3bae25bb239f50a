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

// Options configure a Service. Data, Objects, Logs, Runtime are required.
type Options struct {
	Data    string // directory of this service's state: jobs and scratch space
	Region  string // default us-east-1
	Account string // default 123456789012

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
	// Limits is a JSON file, read at every create, that holds account quotas
	// and instance sizes (see Limits). A missing file means no limits.
	Limits string
	Log    logrus.FieldLogger
}

var _ http.Handler = (*Service)(nil)
