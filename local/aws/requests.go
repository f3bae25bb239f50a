package aws

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync"
)

// maxRecorded is how many SageMaker requests are kept; the oldest go first.
const maxRecorded = 10_000

// Request is a SageMaker request that was made.
type Request struct {
	Operation string          `json:"operation"`
	Body      json.RawMessage `json:"body"`
}

// requests counts calls per service and operation and keeps the bodies of
// SageMaker's, so that tests can say how many there were and check them.
type requests struct {
	mu        sync.Mutex
	counts    map[string]map[string]int
	sagemaker []Request
}

func (q *requests) count(service, operation string, body []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.counts == nil {
		q.counts = map[string]map[string]int{}
	}
	if q.counts[service] == nil {
		q.counts[service] = map[string]int{}
	}
	q.counts[service][operation]++
	if service != "sagemaker" {
		return
	}
	if !json.Valid(body) {
		body, _ = json.Marshal(string(body))
	}
	if len(q.sagemaker) == maxRecorded {
		q.sagemaker = q.sagemaker[1:]
	}
	q.sagemaker = append(q.sagemaker, Request{operation, slices.Clone(body)})
}

// Requests are the calls of a Server since its start or the last reset.
type Requests struct {
	Counts    map[string]map[string]int `json:"counts"` // by service and operation
	SageMaker []Request                 `json:"sagemaker"`
}

// ServeHTTP answers GET and DELETE /_local/requests; DELETE resets.
func (q *requests) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch r.Method {
	case http.MethodGet:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Requests{q.counts, q.sagemaker})
	case http.MethodDelete:
		q.counts, q.sagemaker = nil, nil
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}
