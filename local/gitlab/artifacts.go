package gitlab

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
)

// Types of artifacts that the coordinator itself knows.
const (
	ArtifactArchive = "archive"
	ArtifactDotenv  = "dotenv"
)

// StoredArtifact is a file that a job has uploaded.
type StoredArtifact struct {
	Type     string // "archive", "dotenv", "junit", ...
	Format   string // "zip", "gzip", "raw"
	Filename string // as the runner named it: "artifacts.zip"
	ExpireIn string
	Size     int64
	Path     string // where it lies, under Options.Dir
}

// Bytes reads the whole file.
func (a StoredArtifact) Bytes() ([]byte, error) { return os.ReadFile(a.Path) }

// Artifacts are the job's uploads so far, in the order in which they came.
func (j *Job) Artifacts() []StoredArtifact {
	j.mu.Lock()
	defer j.mu.Unlock()
	artifacts := make([]StoredArtifact, len(j.artifacts))
	for i, artifact := range j.artifacts {
		artifacts[i] = *artifact
	}
	return artifacts
}

// Artifact finds the upload of a type (the last one of several).
func (j *Job) Artifact(artifactType string) (StoredArtifact, bool) {
	artifacts := j.Artifacts()
	for i := len(artifacts) - 1; i >= 0; i-- {
		if artifacts[i].Type == artifactType {
			return artifacts[i], true
		}
	}
	return StoredArtifact{}, false
}

// Dotenv is the variables that the job left for later ones
// (artifacts:reports:dotenv), in the file's order.
func (j *Job) Dotenv() ([]Variable, error) {
	stored, ok := j.Artifact(ArtifactDotenv)
	if !ok {
		return nil, nil
	}
	return readDotenv(stored)
}

func (c *Coordinator) uploadArtifact(w http.ResponseWriter, r *http.Request) {
	job := c.authenticated(w, r, "")
	if job == nil {
		return
	}
	if state := job.State(); state.Final() || state == StatePending {
		c.jobHeaders(w, state)
		message(w, http.StatusForbidden, "403 Forbidden - Job is not running")
		return
	}
	stored, err := c.store(job, w, r)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		message(w, http.StatusRequestEntityTooLarge, "413 Request Entity Too Large")
		return
	case err != nil:
		message(w, http.StatusBadRequest, "400 Bad request - "+err.Error())
		return
	}
	if stored.Type == ArtifactDotenv {
		// GitLab reads the report at once and refuses what it cannot read.
		if _, err := readDotenv(*stored); err != nil {
			_ = os.Remove(stored.Path)
			message(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	job.update(func() { job.artifacts = append(job.artifacts, stored) })
	reply(w, http.StatusCreated, map[string]any{"message": "201 Created"})
}

// store streams the form's file to the disk.
func (c *Coordinator) store(job *Job, w http.ResponseWriter, r *http.Request) (*StoredArtifact, error) {
	if c.options.MaxArtifactSize > 0 {
		r.Body = http.MaxBytesReader(w, r.Body, c.options.MaxArtifactSize)
	}
	form, err := r.MultipartReader()
	if err != nil {
		return nil, fmt.Errorf("read the form: %w", err)
	}
	for {
		part, err := form.NextPart()
		if err != nil {
			return nil, fmt.Errorf("the form has no file: %w", err)
		}
		if part.FormName() != "file" {
			continue
		}
		query := r.URL.Query()
		stored := &StoredArtifact{
			Type: query.Get("artifact_type"), Format: query.Get("artifact_format"),
			ExpireIn: query.Get("expire_in"), Filename: path.Base(part.FileName()),
		}
		setDefault(&stored.Type, ArtifactArchive)
		setDefault(&stored.Format, "zip")
		dir := filepath.Join(c.options.Dir, "jobs", strconv.FormatInt(job.ID(), 10))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("store an artifact: %w", err)
		}
		// The names come from the job: they are told, never used as paths.
		file, err := os.CreateTemp(dir, "artifact-*")
		if err != nil {
			return nil, fmt.Errorf("store an artifact: %w", err)
		}
		stored.Path = file.Name()
		stored.Size, err = io.Copy(file, part)
		if err = errors.Join(err, file.Close()); err != nil {
			_ = os.Remove(stored.Path)
			return nil, fmt.Errorf("store an artifact: %w", err)
		}
		return stored, nil
	}
}

// downloadArtifacts serves a job's archive to the runner. The token is that of
// the job itself (the runner uses dependencies[].token) or of a running job.
func (c *Coordinator) downloadArtifacts(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
	job := c.Job(id)
	if job == nil {
		message(w, http.StatusNotFound, "404 Not found")
		return
	}
	token := r.Header.Get("JOB-TOKEN")
	if !sameToken(token, job.Token()) && c.runningJob(token) == nil {
		message(w, http.StatusForbidden, "403 Forbidden")
		return
	}
	archive, ok := job.Artifact(ArtifactArchive)
	if !ok {
		message(w, http.StatusNotFound, "404 Artifacts file not found")
		return
	}
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": archive.Filename}))
	http.ServeFile(w, r, archive.Path)
}

// runningJob finds the job that the token belongs to, if a runner has it.
func (c *Coordinator) runningJob(token string) *Job {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, job := range c.jobs {
		if sameToken(token, job.Token()) {
			if state := job.State(); state == StateRunning || state == StateCanceling {
				return job
			}
		}
	}
	return nil
}
