package sagemaker

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// APIError is an error as AWS's API answers it.
type APIError struct {
	Code    string // the error's shape, e.g. ValidationException
	Message string
	Status  int // HTTP status; 0 means 400
}

// Error implements error.
func (e *APIError) Error() string { return e.Code + ": " + e.Message }

func validation(format string, a ...any) *APIError {
	return &APIError{Code: "ValidationException", Message: fmt.Sprintf(format, a...)}
}

// errNotFound is what Describe, Stop, Update and Delete say of a job that is
// not there: a ValidationException, not a ResourceNotFound.
func errNotFound() *APIError { return validation("Requested resource not found.") }

func writeError(w http.ResponseWriter, e *APIError) {
	status := e.Status
	if status == 0 {
		status = http.StatusBadRequest
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Amzn-Errortype", e.Code)
	body, err := json.Marshal(map[string]string{"__type": e.Code, "message": e.Message})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
