package aws

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/iam"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/rpc"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/s3"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sagemaker"
)

// Fault is something that shall go wrong: with a request, or, with Job set, with
// a training job. The first fault that matches applies.
type Fault struct {
	// Service ("s3") and Operation ("PutObject") may hold wildcards; empty
	// matches every one.
	Service   string `json:"service,omitempty"`
	Operation string `json:"operation,omitempty"`
	// Match holds wildcards by the path of a request's member:
	// {"ResourceConfig.InstanceType": "ml.g5.*"}; S3 has "Bucket" and "Key".
	Match map[string]string `json:"match,omitempty"`
	// Skip lets that many matching requests pass first; Count is how many are
	// hit then, 0 for all.
	Skip  int `json:"skip,omitempty"`
	Count int `json:"count,omitempty"`

	Delay sagemaker.Duration `json:"delay,omitempty"`
	// Error is AWS's code ("ThrottlingException"), answered with Message and
	// Status; without a Status, one that fits the code.
	Error   string `json:"error,omitempty"`
	Message string `json:"message,omitempty"`
	Status  int    `json:"status,omitempty"`
	// Drop closes the connection without an answer; Truncate does so after that
	// many bytes of the answer's body.
	Drop     bool  `json:"drop,omitempty"`
	Truncate int64 `json:"truncate,omitempty"`
	// After carries the request out first. Without Error its answer is lost: the
	// connection is closed.
	After bool `json:"after,omitempty"`

	Job *sagemaker.JobFault `json:"job,omitempty"`

	Seen int `json:"seen,omitempty"` // how many requests have matched; not read
}

func (f *Fault) validate() error {
	f.Seen = 0
	if f.Skip < 0 || f.Count < 0 || f.Truncate < 0 {
		return errors.New("skip, count and truncate cannot be negative")
	}
	request := f.Error != "" || f.Drop || f.Truncate > 0 || f.After || f.Delay > 0
	switch {
	case f.Job != nil && (request || f.Service != "" || f.Operation != ""):
		return errors.New("a fault with job has no part of a request's fault but match, skip and count")
	case f.Job != nil:
		return f.Job.Validate()
	case !request:
		return errors.New("a fault needs one of error, drop, truncate, after, delay and job")
	}
	return nil
}

// hit says whether the fault applies, and counts.
func (f *Fault) hit(service, operation string, member func(path string) string) bool {
	if f.Service != "" && !iam.Match(f.Service, service) || f.Operation != "" && !iam.Match(f.Operation, operation) {
		return false
	}
	for path, pattern := range f.Match {
		if !iam.Match(pattern, member(path)) {
			return false
		}
	}
	if f.Count > 0 && f.Seen >= f.Skip+f.Count {
		return false
	}
	f.Seen++
	return f.Seen > f.Skip
}

// faults are the faults that were asked for.
type faults struct {
	mu   sync.Mutex
	list []*Fault
}

var _ sagemaker.JobFaults = (*faults)(nil)

// add appends a JSON list of faults.
func (q *faults) add(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	var list []*Fault
	if err := d.Decode(&list); err != nil {
		return fmt.Errorf("faults are a JSON list of objects: %w", err)
	}
	for i, f := range list {
		if f == nil {
			return fmt.Errorf("fault %d is null", i+1)
		}
		if err := f.validate(); err != nil {
			return fmt.Errorf("fault %d: %w", i+1, err)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list = append(q.list, list...)
	return nil
}

// load adds the faults in a file.
func (q *faults) load(path string) error {
	if path == "" {
		return nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the faults: %w", err)
	}
	if err := q.add(raw); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// request returns the fault that hits a request, nil for none.
func (q *faults) request(c *call, r *http.Request) *Fault {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) == 0 {
		return nil
	}
	member := c.members(r)
	for _, f := range q.list {
		if f.Job == nil && f.hit(c.service, c.operation, member) {
			found := *f
			return &found
		}
	}
	return nil
}

// Take implements sagemaker.JobFaults.
func (q *faults) Take(job map[string]any) (sagemaker.JobFault, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range q.list {
		if f.Job != nil && f.hit("", "", func(path string) string { return memberOf(job, path) }) {
			return *f.Job, true
		}
	}
	return sagemaker.JobFault{}, false
}

// members returns a function that reads a request's members as text.
func (c *call) members(r *http.Request) func(path string) string {
	switch c.service {
	case "s3":
		bucket, key := s3.Address(r)
		return func(path string) string { return map[string]string{"Bucket": bucket, "Key": key}[path] }
	case "sts":
		return c.form.Get
	}
	var body map[string]any
	return func(path string) string {
		if body == nil {
			body = map[string]any{}
			_ = json.Unmarshal(c.body, &body) // what is no JSON has no members
		}
		return memberOf(body, path)
	}
}

// memberOf reads a member by its path: names and list indexes from 0, joined
// with dots. What is not there is "".
func memberOf(value any, path string) string {
	for _, name := range strings.Split(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(v) {
				return ""
			}
			value = v[i]
		default:
			return ""
		}
	}
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case map[string]any, []any:
		raw, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return string(raw)
	}
	return fmt.Sprint(value)
}

// status is the HTTP status of a fault's error.
func (f *Fault) status() int {
	if f.Status != 0 {
		return f.Status
	}
	switch f.Error {
	case "InternalError", "InternalFailure", "InternalServerError":
		return http.StatusInternalServerError
	case "SlowDown", "ServiceUnavailable":
		return http.StatusServiceUnavailable
	case "AccessDenied":
		return http.StatusForbidden
	}
	return http.StatusBadRequest
}

// serve answers a request that the fault hits; next carries it out.
func (f *Fault) serve(w http.ResponseWriter, r *http.Request, c *call, next http.Handler) {
	if f.Delay > 0 {
		timer := time.NewTimer(time.Duration(f.Delay))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	if f.After {
		next.ServeHTTP(&lost{header: http.Header{}}, r)
	}
	switch {
	case f.Error != "":
		c.writeError(w, r, &rpc.Error{Code: f.Error, Message: f.Message, Status: f.status()})
	case f.Drop || f.After:
		panic(http.ErrAbortHandler) // closes the connection without an answer
	case f.Truncate > 0:
		next.ServeHTTP(&truncated{ResponseWriter: w, left: f.Truncate}, r)
	default:
		next.ServeHTTP(w, r)
	}
}

// lost is an answer that nobody gets.
type lost struct{ header http.Header }

func (l *lost) Header() http.Header         { return l.header }
func (l *lost) Write(b []byte) (int, error) { return io.Discard.Write(b) }
func (l *lost) WriteHeader(int)             {}

// truncated closes the connection when left bytes of the body are written.
type truncated struct {
	http.ResponseWriter
	left int64
}

func (t *truncated) Write(b []byte) (int, error) {
	if int64(len(b)) < t.left {
		t.left -= int64(len(b))
		return t.ResponseWriter.Write(b)
	}
	_, _ = t.ResponseWriter.Write(b[:t.left])
	_ = http.NewResponseController(t.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// ServeHTTP answers /_local/faults: GET lists, POST adds a list, DELETE removes
// all.
func (q *faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		q.mu.Lock()
		defer q.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(append([]*Fault{}, q.list...))
	case http.MethodPost:
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, rpc.MaxBody))
		if err == nil {
			err = q.add(raw)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	case http.MethodDelete:
		q.mu.Lock()
		defer q.mu.Unlock()
		q.list = nil
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}
