package sagemaker

import (
	"net/http"
)

// Service is the SageMaker of one account and region.
type Service struct {
	opts Options
}

// New loads the state under opts.Data. Jobs that were running when the last
// process ended become Failed with InternalServerError.
func New(opts Options) (*Service, error) {
	return &Service{opts: opts}, nil
}

// Close kills every running job and waits for its end.
func (s *Service) Close() error { return nil }

// ServeHTTP answers one call of the JSON 1.1 protocol.
func (s *Service) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "not implemented", http.StatusNotImplemented)
}
