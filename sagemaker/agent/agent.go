// Package agent runs inside the SageMaker container. It fetches the project and
// the scripts from the exchange, runs them, and sends back their output, their
// exit codes and the files that the job keeps.
package agent

import (
	"context"
	"errors"
)

// Options say where the exchange is.
type Options struct {
	// Exchange is the URL of the attempt's prefix: s3://BUCKET/PREFIX/.
	Exchange string
	// Region of the bucket.
	Region string
}

// Run serves the exchange until the executor says finish. The error is an
// *ExitError if the script failed.
func Run(ctx context.Context, opts Options) error { return errors.New("not written yet") }
