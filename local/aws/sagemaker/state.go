package sagemaker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Service is the SageMaker of one account and region.
type Service struct {
	opts Options
	log  logrus.FieldLogger
	ops  map[string]operation

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	jobs      map[string]*job
	addresses int // the last loopback address given to a host
}

// job is a training job: its record and, while it runs, what can be done to it.
// The record is guarded by Service.mu.
type job struct {
	record
	req  *trainingRequest
	live *metrics                // of the run
	stop context.CancelCauseFunc // ends the job's run early; nil once terminal
	pool *time.Timer             // ends the warm pool
}

// Causes for which a run ends early.
var (
	errStopRequested = errors.New("stop requested")
	errMaxRuntime    = errors.New("MaxRuntimeInSeconds exceeded")
	errMaxWait       = errors.New("MaxWaitTimeInSeconds exceeded")
	errMaxPending    = errors.New("MaxPendingTimeInSeconds exceeded")
	errInterrupted   = errors.New("spot instance interrupted")
)

const internalError = "InternalServerError: We encountered an internal error. Please try again."

// New loads the state under opts.Data. Jobs that were running when the last
// process ended become Failed with InternalServerError; their containers died
// with it.
func New(opts Options) (*Service, error) {
	if opts.Data == "" || opts.Objects == nil || opts.Logs == nil || opts.Runtime == nil {
		return nil, errors.New("sagemaker: Data, Objects, Logs and Runtime are required")
	}
	// Containers are started from elsewhere than our working directory.
	data, err := filepath.Abs(opts.Data)
	if err != nil {
		return nil, fmt.Errorf("sagemaker: %w", err)
	}
	opts.Data = data
	if opts.Region == "" {
		opts.Region = "us-east-1"
	}
	if opts.Account == "" {
		opts.Account = "123456789012"
	}
	if opts.StopGrace == 0 {
		opts.StopGrace = 120 * time.Second
	}
	if opts.Log == nil {
		quiet := logrus.New()
		quiet.SetLevel(logrus.ErrorLevel)
		opts.Log = quiet
	}
	s := &Service{opts: opts, log: opts.Log, jobs: map[string]*job{}, addresses: rand.IntN(loopbackHosts)}
	s.ops = s.operations()
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.load(); err != nil {
		s.cancel()
		return nil, err
	}
	return s, nil
}

// Close kills every running job and waits for its end.
func (s *Service) Close() error {
	s.cancel()
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		if j.pool != nil {
			j.pool.Stop()
		}
	}
	return nil
}

func (s *Service) jobsDir() string    { return filepath.Join(s.opts.Data, "training-jobs") }
func (s *Service) scratchDir() string { return filepath.Join(s.opts.Data, "instances") }

func (s *Service) load() error {
	for _, d := range []string{s.jobsDir(), s.scratchDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil { // jobs' data is nobody else's
			return fmt.Errorf("sagemaker: make the state directory: %w", err)
		}
	}
	left, err := os.ReadDir(s.scratchDir())
	if err != nil {
		return fmt.Errorf("sagemaker: read the scratch directory: %w", err)
	}
	for _, e := range left {
		if err := removeAll(filepath.Join(s.scratchDir(), e.Name())); err != nil {
			return fmt.Errorf("sagemaker: remove what a killed server left: %w", err)
		}
	}
	files, err := os.ReadDir(s.jobsDir())
	if err != nil {
		return fmt.Errorf("sagemaker: read the jobs: %w", err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") {
			continue
		}
		if err := s.loadJob(filepath.Join(s.jobsDir(), f.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) loadJob(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("sagemaker: read a job: %w", err)
	}
	j := new(job)
	if err := decode(b, &j.record); err != nil {
		return fmt.Errorf("sagemaker: %s is not a job: %w", path, err)
	}
	if j.req, err = typed(j.Request); err != nil {
		return fmt.Errorf("sagemaker: %s is not a job: %w", path, err)
	}
	s.jobs[j.Name] = j
	if j.WarmPool != nil && j.WarmPool.Status != poolReused {
		j.WarmPool.Status = poolTerminated
	}
	if !j.terminal() {
		j.FailureReason = internalError
		s.transit(j, statusFailed, statusFailed, messageFailed)
		return nil
	}
	return s.save(j)
}

// save writes the job's record. The caller holds s.mu.
func (s *Service) save(j *job) error {
	b, err := json.MarshalIndent(&j.record, "", " ")
	if err != nil {
		return fmt.Errorf("sagemaker: encode job %s: %w", j.Name, err)
	}
	path := filepath.Join(s.jobsDir(), j.Name+".json")
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("sagemaker: save job %s: %w", j.Name, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("sagemaker: save job %s: %w", j.Name, err)
	}
	return nil
}

// changed notes a change of the job. A failure to save costs the job's memory
// across restarts, not the job. The caller holds s.mu.
func (s *Service) changed(j *job) {
	j.Modified = epoch(time.Now())
	if err := s.save(j); err != nil {
		s.log.WithError(err).Error("sagemaker: state not saved")
	}
}

// transit moves the job to a status, or, when the secondary status stays, to
// the next message of it. An empty status keeps the primary one. The caller
// holds s.mu.
func (s *Service) transit(j *job, status, secondary, message string) {
	now := epoch(time.Now())
	if status != "" {
		j.Status = status
	}
	j.Secondary = secondary
	last := len(j.Transitions) - 1
	switch {
	case last >= 0 && j.Transitions[last].Status == secondary:
		j.Transitions[last].StatusMessage = message
	default:
		if last >= 0 {
			j.Transitions[last].EndTime = &now
		}
		j.Transitions = append(j.Transitions, transition{Status: secondary, StartTime: now, StatusMessage: message})
	}
	if j.terminal() {
		j.Transitions[len(j.Transitions)-1].EndTime = &now
		j.stop = nil
		if j.Started != nil && j.Ended == nil {
			j.Ended = &now
		}
	}
	s.changed(j)
}

// set is transit for callers that do not hold s.mu.
func (s *Service) set(j *job, status, secondary, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transit(j, status, secondary, message)
}

// removeAll is os.RemoveAll for trees that hold directories nobody may enter,
// such as overlayfs's work directory.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			return os.Chmod(p, 0o700) // before it is read
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}
