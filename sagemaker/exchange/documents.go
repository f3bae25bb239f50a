package exchange

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Version of the documents. Executor and agent are the same binary, so a
// difference means that something else writes to the prefix.
const Version = 1

// maxDocument limits how much of a JSON document is read: the other side may
// be hostile.
const maxDocument = 16 << 20

// Intent says which AWS resource an attempt is about to create. It is written
// before the resource is, so that cleanup knows what to look for even when the
// answer to the create call was lost.
type Intent struct {
	Kind         string            `json:"kind"` // "training"
	Name         string            `json:"name"` // the training job's name
	Attempt      int               `json:"attempt"`
	InstanceType string            `json:"instance_type,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"` // ours, as sent
	Created      time.Time         `json:"created"`
}

// Job tells the agent what it will run and what is to come home.
type Job struct {
	Version int `json:"version"`
	// ProjectDir and TmpDir are absolute and the same on both sides: the
	// runner's scripts hold them.
	ProjectDir string `json:"project_dir"`
	TmpDir     string `json:"tmp_dir"`
	// Entrypoint is put in front of the shell, e.g. the image's own.
	Entrypoint []string `json:"entrypoint,omitempty"`
	// Image is the container's image, for error texts.
	Image string `json:"image,omitempty"`
	// Env is added to the environment of the scripts. The job's variables need
	// not be here: the runner's scripts export them.
	Env map[string]string `json:"env,omitempty"`
	// Variables are the job's, as the runner expands them (for a file-type
	// variable the path of its file): patterns may refer to them.
	Variables map[string]string `json:"variables,omitempty"`
	// Artifacts and Cache are the patterns of what comes home.
	Artifacts []Pattern `json:"artifacts,omitempty"`
	Cache     []Pattern `json:"cache,omitempty"`
	// Masked are values, and MaskedPrefixes beginnings of values, that must not
	// be seen in CloudWatch.
	Masked         []string `json:"masked,omitempty"`
	MaskedPrefixes []string `json:"masked_prefixes,omitempty"`
	// CloudWatch is what goes to the container's stdout.
	CloudWatch CloudWatch `json:"cloudwatch,omitempty"`
	// Metrics are the regular expressions of the job's metric definitions.
	Metrics []string `json:"metrics,omitempty"`
	// StopGrace is how long a script has between SIGTERM and SIGKILL.
	StopGrace Duration `json:"stop_grace,omitempty"`
	// DeadAfter is how long the executor may be silent before the agent ends.
	DeadAfter Duration `json:"dead_after,omitempty"`
	// Hosts is the number of instances; 0 means 1.
	Hosts int `json:"hosts,omitempty"`
	// MinFree is the free space in bytes that ProjectDir needs beside the
	// workspace's own size; 0 means the agent's default.
	MinFree int64 `json:"min_free,omitempty"`
	// Labels are the originals of what the tags say, for whoever reads S3.
	Labels map[string]string `json:"labels,omitempty"`
	// Workspace is filled in by Publish.
	Workspace WorkspaceInfo `json:"workspace"`
}

// WorkspaceInfo describes workspace.tar.zst before compression.
type WorkspaceInfo struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// CloudWatch says what the agent writes to its stdout, which SageMaker sends to
// CloudWatch Logs.
type CloudWatch string

// What goes to CloudWatch. The empty value means CloudWatchFull.
const (
	CloudWatchFull    CloudWatch = "full"    // everything, masked
	CloudWatchMetrics CloudWatch = "metrics" // lines that a metric definition matches
	CloudWatchOff     CloudWatch = "off"     // the agent's own lines only
)

// Pattern selects files as GitLab's artifacts and cache keywords do. Paths and
// Exclude hold unexpanded patterns, relative to the project directory or
// absolute within it.
type Pattern struct {
	Paths     []string `json:"paths,omitempty"`
	Exclude   []string `json:"exclude,omitempty"`
	Untracked bool     `json:"untracked,omitempty"`
}

// StepKind says what the agent is to do.
type StepKind string

// The kinds of step.
const (
	StepScript StepKind = "script" // run a script
	StepFinish StepKind = "finish" // pack the outputs and leave
)

// Step is one command to the agent.
type Step struct {
	Kind   StepKind `json:"kind"`
	Stage  string   `json:"stage,omitempty"`
	Script string   `json:"script,omitempty"` // key
	SHA256 string   `json:"sha256,omitempty"` // of the script, hexadecimal
	// FirstHostOnly keeps the script from the other hosts.
	FirstHostOnly bool `json:"first_host_only,omitempty"`
	// Hosts is the number of hosts that run the script; 0 means 1.
	Hosts int `json:"hosts,omitempty"`
}

// Result says how a script ended on a host. It is written after the last chunk
// of the script's log.
type Result struct {
	Host        string `json:"host"`
	Incarnation int    `json:"incarnation"`
	// ExitCode is the script's, 128+N if signal N killed it.
	ExitCode int `json:"exit_code"`
	// Signal is the name of the signal that killed the script ("SIGKILL"), or empty.
	Signal string `json:"signal,omitempty"`
	// OOM says that the kernel killed something for want of memory.
	OOM bool `json:"oom,omitempty"`
	// Cancelled says that the script was stopped because a cancel asked for it.
	Cancelled bool `json:"cancelled,omitempty"`
	// Error is set if the script could not be run at all: one sentence.
	// ExitCode means nothing then.
	Error string `json:"error,omitempty"`
	// UserError says that Error is for the user to mend (no shell in the image).
	UserError bool      `json:"user_error,omitempty"`
	MaxRSS    int64     `json:"max_rss,omitempty"` // bytes, of the largest process
	Started   time.Time `json:"started"`
	Ended     time.Time `json:"ended"`
	LogChunks int       `json:"log_chunks"`
	LogBytes  int64     `json:"log_bytes"`
}

// OutputsInfo says what outputs.tar.zst holds.
type OutputsInfo struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"` // before compression
	// Patterns are the job's, expanded: the executor deletes what they match
	// before it unpacks.
	Patterns []Pattern `json:"patterns,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
	// Error is set if there are no outputs: one sentence. Lost says that it is
	// because the instance was taken away in between.
	Error string `json:"error,omitempty"`
	Lost  bool   `json:"lost,omitempty"`
}

// Beat is a sign of life. Only the change of its content counts: the clocks of
// the two sides are not compared.
type Beat struct {
	Incarnation int    `json:"incarnation,omitempty"`
	Sequence    uint64 `json:"sequence"`
	Nonce       string `json:"nonce"` // of the process
	// Left: it is the last one, for the process ends before its work is done.
	Left bool `json:"left,omitempty"`
}

// Duration is a time.Duration that JSON holds as Go writes it ("30s").
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// GetJSON reads a document. The error wraps ErrNotFound if there is none.
func GetJSON[T any](ctx context.Context, s Store, key string) (T, error) {
	var v T
	r, err := s.Get(ctx, key)
	if err != nil {
		return v, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return v, fmt.Errorf("read %s: %w", s.URL(key), err)
	}
	if len(b) > maxDocument {
		return v, fmt.Errorf("read %s: larger than %d bytes", s.URL(key), maxDocument)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("read %s: not the document expected: %w", s.URL(key), err)
	}
	return v, nil
}

// PutJSON writes a document, replacing what is there.
func PutJSON(ctx context.Context, s Store, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", s.URL(key), err)
	}
	return s.PutBytes(ctx, key, b)
}

// PutJSONIfAbsent writes a document unless there is one, as Store.PutIfAbsent does.
func PutJSONIfAbsent(ctx context.Context, s Store, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", s.URL(key), err)
	}
	return s.PutIfAbsent(ctx, key, b)
}
