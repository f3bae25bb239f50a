package gitlab

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// longPoll is how long a request for a job is held when there is none: GitLab
// does the same (50 s), so that a new job starts at once.
const longPoll = 20 * time.Second

// maxJSON limits the bodies of requests that hold JSON.
const maxJSON = 1 << 20

func (c *Coordinator) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v4/runners/verify", c.verifyRunner)
	mux.HandleFunc("DELETE /api/v4/runners", c.unregisterRunner)
	mux.HandleFunc("DELETE /api/v4/runners/managers", c.unregisterRunner)
	mux.HandleFunc("GET /api/v4/runners/router/discovery", func(w http.ResponseWriter, _ *http.Request) {
		message(w, http.StatusNotImplemented, "there is no job router here")
	})
	mux.HandleFunc("POST /api/v4/jobs/request", c.requestJob)
	mux.HandleFunc("PUT /api/v4/jobs/{id}", c.updateJob)
	mux.HandleFunc("PATCH /api/v4/jobs/{id}/trace", c.patchTrace)
	mux.HandleFunc("POST /api/v4/jobs/{id}/artifacts", c.uploadArtifact)
	mux.HandleFunc("GET /api/v4/jobs/{id}/artifacts", c.downloadArtifacts)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		message(w, http.StatusNotFound, "404 Not Found: the local coordinator has no "+r.URL.Path)
	})
	mux.HandleFunc("/", c.serveGit)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.options.Log.WithField("path", r.URL.Path).Debug(r.Method)
		mux.ServeHTTP(w, r)
	})
}

func message(w http.ResponseWriter, code int, text string) {
	reply(w, code, map[string]string{"message": text})
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxJSON)).Decode(into); err != nil {
		message(w, http.StatusBadRequest, "not JSON: "+err.Error())
		return false
	}
	return true
}

type runnerRequest struct {
	Token string `json:"token"`
}

func (c *Coordinator) verifyRunner(w http.ResponseWriter, r *http.Request) {
	var request runnerRequest
	if !decode(w, r, &request) {
		return
	}
	if !sameToken(request.Token, c.runnerToken) {
		message(w, http.StatusForbidden, "403 Forbidden")
		return
	}
	reply(w, http.StatusOK, map[string]any{"id": 1, "token": c.runnerToken, "token_expires_at": nil})
}

func (c *Coordinator) unregisterRunner(w http.ResponseWriter, r *http.Request) {
	var request runnerRequest
	if !decode(w, r, &request) {
		return
	}
	if !sameToken(request.Token, c.runnerToken) {
		message(w, http.StatusForbidden, "403 Forbidden")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// requestJob holds the request until there is a job or longPoll is over.
func (c *Coordinator) requestJob(w http.ResponseWriter, r *http.Request) {
	var request runnerRequest
	if !decode(w, r, &request) {
		return
	}
	if !sameToken(request.Token, c.runnerToken) {
		message(w, http.StatusForbidden, "403 Forbidden")
		return
	}
	timeout := time.NewTimer(longPoll)
	defer timeout.Stop()
	for {
		job, enqueued := c.dequeue()
		if job != nil {
			reply(w, http.StatusCreated, job.payload)
			return
		}
		select {
		case <-enqueued:
		case <-r.Context().Done():
			return
		case <-timeout.C:
			w.WriteHeader(http.StatusNoContent)
			return
		case <-c.closing:
			w.WriteHeader(http.StatusNoContent)
			return
		}
		// A runner that left while it waited must not get the job.
		if r.Context().Err() != nil {
			return
		}
	}
}

func (c *Coordinator) dequeue() (*Job, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 {
		job := c.queue[0]
		c.queue = c.queue[1:]
		if job.start() {
			return job, nil
		}
	}
	return nil, c.enqueued
}

// authenticated finds the job of a request, by the id in its path and the token
// in its header or body. It answers for itself when that fails.
func (c *Coordinator) authenticated(w http.ResponseWriter, r *http.Request, bodyToken string) *Job {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		message(w, http.StatusNotFound, "404 Not found")
		return nil
	}
	job := c.Job(id)
	if job == nil {
		message(w, http.StatusNotFound, "404 Not found")
		return nil
	}
	token := r.Header.Get("JOB-TOKEN")
	if token == "" {
		token = bodyToken
	}
	if !sameToken(token, job.Token()) {
		message(w, http.StatusForbidden, "403 Forbidden")
		return nil
	}
	return job
}

// jobHeaders tells the runner the job's state and how often it shall call.
func (c *Coordinator) jobHeaders(w http.ResponseWriter, state State) {
	w.Header().Set("Job-Status", string(state))
	w.Header().Set("X-GitLab-Trace-Update-Interval", strconv.Itoa(max(1, int(c.options.TraceUpdateInterval/time.Second))))
}

// patchTrace appends to the job log. The part must start where the log ends:
// otherwise 416 says how much there is (GitLab's AppendBuildTraceService).
func (c *Coordinator) patchTrace(w http.ResponseWriter, r *http.Request) {
	job := c.authenticated(w, r, "")
	if job == nil {
		return
	}
	var start, end int
	if _, err := fmt.Sscanf(r.Header.Get("Content-Range"), "%d-%d", &start, &end); err != nil {
		message(w, http.StatusBadRequest, "400 Missing header Content-Range")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		message(w, http.StatusBadRequest, "read the log: "+err.Error())
		return
	}
	code := http.StatusAccepted
	var state State
	var size int
	job.update(func() {
		state = job.state
		switch {
		case state.Final():
			code = http.StatusForbidden
		case start != len(job.trace) || end-start+1 != len(body):
			code = http.StatusRequestedRangeNotSatisfiable
		default:
			job.trace = append(job.trace, body...)
		}
		size = len(job.trace)
	})
	c.jobHeaders(w, state)
	w.Header().Set("Range", fmt.Sprintf("0-%d", size))
	if code == http.StatusForbidden {
		message(w, code, "403 Forbidden - Job is not running")
		return
	}
	w.WriteHeader(code)
}

type updateRequest struct {
	Token         string         `json:"token"`
	State         string         `json:"state"`
	FailureReason string         `json:"failure_reason"`
	ExitCode      int            `json:"exit_code"`
	Info          map[string]any `json:"info"`
	Output        struct {
		Checksum string `json:"checksum"`
		Bytesize int    `json:"bytesize"`
	} `json:"output"`
}

// updateJob takes the runner's word for the job's state. The last update must
// agree with the log that has arrived: 412 makes the runner send it anew.
func (c *Coordinator) updateJob(w http.ResponseWriter, r *http.Request) {
	var request updateRequest
	if !decode(w, r, &request) {
		return
	}
	job := c.authenticated(w, r, request.Token)
	if job == nil {
		return
	}
	final := request.State == string(StateSuccess) || request.State == string(StateFailed)
	code := http.StatusOK
	var state State
	job.update(func() {
		job.info = request.Info
		switch {
		case job.state.Final():
			code = http.StatusForbidden
			job.released = job.released || final
		case !final:
		case request.Output.Checksum != "" && request.Output.Checksum != job.checksum():
			code = http.StatusPreconditionFailed
			job.trace = nil
		case job.state == StateCanceling:
			job.finish(StateCanceled, request.FailureReason, request.ExitCode)
			job.released = true
		default:
			job.finish(State(request.State), request.FailureReason, request.ExitCode)
			job.released = true
		}
		state = job.state
	})
	if code == http.StatusOK && final {
		// The runner aborts what it is told is canceled; this update was taken.
		state = StateRunning
	}
	c.jobHeaders(w, state)
	switch code {
	case http.StatusOK:
		reply(w, code, true)
	case http.StatusForbidden:
		message(w, code, "403 Forbidden - Job is not running")
	default:
		w.WriteHeader(code)
	}
}
