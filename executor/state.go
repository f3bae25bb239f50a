package executor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// state is what one stage leaves to the next, in the job's directory on the
// runner host, which the sandbox does not see. It holds no secret, and nothing
// that cleanup could not find out from the trusted job and the exchange.
type state struct {
	// Kind is the kind of job that prepare found.
	Kind string `json:"kind,omitempty"`
	// Asked: something may have been created in AWS.
	Asked bool `json:"asked,omitempty"`

	// The training job; without a name there is none yet.
	Name         string `json:"name,omitempty"`
	Attempt      int    `json:"attempt,omitempty"`
	InstanceType string `json:"instance_type,omitempty"`
	Hosts        int    `json:"hosts,omitempty"`
	ModelURI     string `json:"model_uri,omitempty"`

	// Contacted: the agent has shown up, so there is a container.
	Contacted bool `json:"contacted,omitempty"`
	// Succeeded: the last script exited with 0.
	Succeeded bool `json:"succeeded,omitempty"`
	// PeakMemory of a script's largest process, in bytes.
	PeakMemory int64 `json:"peak_memory,omitempty"`
	// Gone: the container is known to be gone, and why.
	Gone string `json:"gone,omitempty"`
	// Finished: the agent has acknowledged the finish.
	Finished bool `json:"finished,omitempty"`
	// Collected: the outputs are home.
	Collected bool `json:"collected,omitempty"`
	// Ended: the training job has a terminal status, which was judged.
	Ended bool `json:"ended,omitempty"`
}

const stateFile = "state.json"

// loadState reads the state; a job without one has the zero state and found
// is false.
func loadState(base string) (st *state, found bool, err error) {
	data, err := os.ReadFile(filepath.Join(base, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return &state{}, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read the job's state: %w", err)
	}
	st = &state{}
	if err := json.Unmarshal(data, st); err != nil {
		return nil, false, fmt.Errorf("read the job's state in %s: %w", base, err)
	}
	return st, true, nil
}

// save writes the state in one step: a process that is killed leaves the old
// or the new one.
func (st *state) save(base string) error {
	data, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("write the job's state: %w", err)
	}
	if err := os.MkdirAll(base, 0o700); err != nil {
		return fmt.Errorf("make the job's directory: %w", err)
	}
	f, err := os.CreateTemp(base, stateFile+".*")
	if err != nil {
		return fmt.Errorf("write the job's state: %w", err)
	}
	defer os.Remove(f.Name()) // fails once it was renamed
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the job's state: %w", err)
	}
	if err := os.Rename(f.Name(), filepath.Join(base, stateFile)); err != nil {
		return fmt.Errorf("write the job's state: %w", err)
	}
	return nil
}
