package s3

import (
	"context"
	"io"
	"net/http"
)

// call is one request on its way through gofakes3: what the backend has to know
// of it and what the answer needs that gofakes3 does not give.
type call struct {
	payload *payload // of a PUT of data, else nil
	// encryption are the x-amz-server-side-encryption* headers of a write.
	encryption map[string]string
	// checksum of a CompleteMultipartUpload or the wishes of a CreateMultipartUpload.
	checksumAlgorithm, checksumType, checksumValue string

	extra  http.Header // headers to add to a success
	status int         // of an error whose code gofakes3 does not know; else 0
	resume *resumed    // set when an upload is announced again after a restart
}

type callKey struct{}

func withCall(ctx context.Context, c *call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// callOf returns the call that a backend's context belongs to.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{extra: http.Header{}}
}

// response is a response of gofakes3 on its way out.
type response struct {
	http.ResponseWriter
	request *http.Request
	call    *call
	started bool
}

func (w *response) WriteHeader(status int) {
	if !w.started {
		w.started = true
		if etag := w.Header().Get("ETag"); etag != "" {
			w.Header().Set("ETag", shortETag(etag))
		}
		if status >= http.StatusMultipleChoices {
			refuseBody(w, w.request)
		}
		if status < http.StatusMultipleChoices {
			for name, values := range w.call.extra {
				w.Header()[name] = values
			}
		} else if w.call.status != 0 {
			status = w.call.status
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if !w.started {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// ReadFrom keeps sendfile(2) within reach.
func (w *response) ReadFrom(r io.Reader) (int64, error) {
	if !w.started {
		w.WriteHeader(http.StatusOK)
	}
	return io.Copy(w.ResponseWriter, r)
}

func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// refuseBody closes the connection after an answer that the client gets instead
// of "100 Continue". botocore would take the next answer on that connection for
// a final one too, and wait for ever.
func refuseBody(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Expect") != "" {
		w.Header().Set("Connection", "close")
	}
}
