package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange/archive"
)

// Publish sends the job and its files: project and tmp are what the job calls
// ProjectDir and TmpDir. Scripts have been at work in them, so they are not
// paths, which a link could lead anywhere. The agent can
// begin as soon as the job is there, so Publish may run while the instance
// starts. It may be repeated.
func (r *Remote) Publish(ctx context.Context, job exchange.Job, project, tmp *os.Root) error {
	job.Version = exchange.Version
	job.Workspace = exchange.WorkspaceInfo{}
	for _, root := range []*os.Root{project, tmp} {
		s, err := archive.Measure(ctx, root)
		if err != nil {
			return fmt.Errorf("send the project: %w", err)
		}
		job.Workspace.Files += s.Files
		job.Workspace.Bytes += s.Bytes
	}
	if err := exchange.PutJSON(ctx, r.store, r.keys.Job(), job); err != nil {
		return fmt.Errorf("send the job: %w", err)
	}
	pr, pw := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		_, err := archive.Pack(ctx, pw, func(s string) { r.opts.Notice("%s", s) },
			archive.Tree{Name: archive.ProjectTree, Root: project},
			archive.Tree{Name: archive.TmpTree, Root: tmp})
		pw.CloseWithError(err)
		packed <- err
	}()
	err := r.store.Put(ctx, r.keys.Workspace(), pr)
	pr.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	if packErr := <-packed; err != nil || packErr != nil {
		if err == nil {
			err = packErr
		}
		return fmt.Errorf("send the project: %w", err)
	}
	return nil
}
