package sagemaker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

const (
	contentType  = "application/x-amz-json-1.1"
	targetPrefix = "SageMaker."
	maxBody      = 8 << 20
)

// object is a JSON object whose numbers keep their spelling.
type object = map[string]any

type operation func(ctx context.Context, body []byte) (any, error)

func (s *Service) operations() map[string]operation {
	return map[string]operation{
		"CreateTrainingJob":   handler(s.createTrainingJob),
		"DescribeTrainingJob": handler(s.describeTrainingJob),
		"ListTrainingJobs":    handler(s.listTrainingJobs),
		"StopTrainingJob":     handler(s.stopTrainingJob),
		"DeleteTrainingJob":   handler(s.deleteTrainingJob),
		"UpdateTrainingJob":   handler(s.updateTrainingJob),
		"AddTags":             handler(s.addTags),
		"ListTags":            handler(s.listTags),
		"DeleteTags":          handler(s.deleteTags),
		"Search":              handler(s.search),
	}
}

// handler adapts a typed operation. A nil answer is an empty body, as AWS
// answers Stop and Delete.
func handler[In, Out any](f func(context.Context, *In) (*Out, error)) operation {
	return func(ctx context.Context, body []byte) (any, error) {
		in := new(In)
		if err := decode(body, in); err != nil {
			return nil, &APIError{Code: "SerializationException", Message: err.Error()}
		}
		out, err := f(ctx, in)
		if err != nil || out == nil {
			return nil, err
		}
		return out, nil
	}
}

func decode(body []byte, into any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("decode the request: %w", err)
	}
	return nil
}

// ServeHTTP answers one call of the JSON 1.1 protocol.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	op := s.ops[name]
	if !ok || op == nil {
		writeError(w, &APIError{
			Code:    "UnknownOperationException",
			Message: fmt.Sprintf("the local SageMaker does not have the operation %q", r.Header.Get("X-Amz-Target")),
		})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		writeError(w, &APIError{Code: "SerializationException", Message: err.Error()})
		return
	}
	out, err := op(r.Context(), body)
	if err != nil {
		var api *APIError
		if !errors.As(err, &api) {
			s.log.WithError(err).WithField("operation", name).Error("sagemaker: internal failure")
			api = &APIError{Code: "InternalFailure", Message: err.Error(), Status: http.StatusInternalServerError}
		}
		writeError(w, api)
		return
	}
	w.Header().Set("Content-Type", contentType)
	if out == nil {
		w.Header().Set("Content-Length", "0")
		return
	}
	answer, err := json.Marshal(out)
	if err != nil {
		writeError(w, &APIError{Code: "InternalFailure", Message: err.Error(), Status: http.StatusInternalServerError})
		return
	}
	_, _ = w.Write(answer)
}
