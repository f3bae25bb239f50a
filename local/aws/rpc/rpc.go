// Package rpc is the server's side of AWS's JSON 1.1 protocol: POST / with the
// operation in X-Amz-Target and a JSON object as the body.
//
// https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
package rpc

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

// ContentType is the media type of requests and answers.
const ContentType = "application/x-amz-json-1.1"

// MaxBody is the largest request that is read, in bytes: PutLogEvents' 1 MiB
// can double in JSON's escapes and more.
const MaxBody = 8 << 20

// Error is an error with AWS's code. Status 0 means 400.
type Error struct {
	Code, Message string
	Status        int
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Errorf returns an Error with status 400.
func Errorf(code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// WriteError answers with err: an *Error as it is, any other as
// InternalFailure with status 500.
func WriteError(w http.ResponseWriter, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Code: "InternalFailure", Message: err.Error(), Status: http.StatusInternalServerError}
	}
	status := e.Status
	if status == 0 {
		status = http.StatusBadRequest
	}
	w.Header().Set("Content-Type", ContentType)
	w.Header().Set("X-Amzn-Errortype", e.Code)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": e.Code, "message": e.Message})
}

// Operation splits the X-Amz-Target of a request into service and operation.
func Operation(r *http.Request) (service, operation string) {
	service, operation, _ = strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	return service, operation
}

// Func answers one operation. A nil answer is an empty body.
type Func func(ctx context.Context, body []byte) (any, error)

// Op makes a Func of a function with typed input and output.
func Op[In, Out any](f func(context.Context, *In) (*Out, error)) Func {
	return func(ctx context.Context, body []byte) (any, error) {
		in := new(In)
		if body = bytes.TrimSpace(body); len(body) > 0 {
			if err := json.Unmarshal(body, in); err != nil {
				return nil, Errorf("SerializationException", "%v", err)
			}
		}
		out, err := f(ctx, in)
		if err != nil || out == nil {
			return nil, err
		}
		return out, nil
	}
}

// Handler answers requests by the operation's name.
func Handler(operations map[string]Func) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, name := Operation(r)
		op := operations[name]
		if op == nil {
			WriteError(w, Errorf("UnknownOperationException", "local AWS does not have the operation %q", r.Header.Get("X-Amz-Target")))
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
		if err != nil {
			WriteError(w, Errorf("SerializationException", "%v", err))
			return
		}
		out, err := op(r.Context(), body)
		if err != nil {
			WriteError(w, err)
			return
		}
		w.Header().Set("Content-Type", ContentType)
		if out == nil {
			w.Header().Set("Content-Length", "0")
			return
		}
		answer, err := json.Marshal(out)
		if err != nil {
			WriteError(w, err)
			return
		}
		_, _ = w.Write(answer)
	})
}
