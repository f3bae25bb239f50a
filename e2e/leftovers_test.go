package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// nothingLeft requires that a job that the runner is done with has left nothing
// behind: no instance, no exchange, no files, no process. AWS takes a moment to
// stop a job, so it is given one.
func (s *stack) nothingLeft(t *testing.T, j *gitlab.Job) {
	t.Helper()
	var left []string
	gone := func() bool {
		left = s.leftOf(t, j)
		return len(left) == 0
	}
	if !assert.Eventually(t, gone, 45*time.Second, 100*time.Millisecond) {
		t.Errorf("job %d left: %s", j.ID(), strings.Join(left, ", "))
	}
}

func (s *stack) leftOf(t *testing.T, j *gitlab.Job) []string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var left []string
	for _, job := range s.trainingJobs(ctx, t, j) {
		switch job.TrainingJobStatus {
		case types.TrainingJobStatusInProgress, types.TrainingJobStatusStopping:
			left = append(left, fmt.Sprintf("training job %s, %s", aws.ToString(job.TrainingJobName), job.TrainingJobStatus))
		}
	}
	left = append(left, s.exchange(ctx, t, j)...)
	directories, err := filepath.Glob(filepath.Join(s.work, "jobs", "*", strconv.FormatInt(j.ID(), 10)))
	require.NoError(t, err)
	left = append(left, directories...)
	for _, v := range j.Payload().Variables {
		if v.Key == "E2E_MARK" {
			left = append(left, processesWith("E2E_MARK="+v.Value+"\x00")...)
		}
	}
	return left
}

// trainingJobs are the SageMaker jobs of a GitLab job, by their names.
func (s *stack) trainingJobs(ctx context.Context, t *testing.T, j *gitlab.Job) []types.TrainingJobSummary {
	t.Helper()
	list, err := s.sagemaker.ListTrainingJobs(ctx, &sagemaker.ListTrainingJobsInput{
		NameContains: aws.String(fmt.Sprintf("-%d-", j.ID())), MaxResults: aws.Int32(100),
	})
	if !assert.NoError(t, err) {
		return nil
	}
	return list.TrainingJobSummaries
}

// exchange lists the objects through which executor and agent talk. The log of a
// job whose output was too long for GitLab stays, and says so.
func (s *stack) exchange(ctx context.Context, t *testing.T, j *gitlab.Job) []string {
	t.Helper()
	var keys []string
	var kept bool
	pages := s3.NewListObjectsV2Paginator(s.s3, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String(prefix + "/jobs/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if !assert.NoError(t, err) {
			return nil
		}
		for _, object := range page.Contents {
			key := aws.ToString(object.Key)
			if strings.Contains(key, fmt.Sprintf("/%d-", j.ID())) {
				keys = append(keys, key)
				kept = kept || strings.HasSuffix(key, "/log/kept")
			}
		}
	}
	if !kept {
		return keys
	}
	var unexpected []string
	for _, key := range keys {
		if !strings.Contains(key, "/log/") {
			unexpected = append(unexpected, key)
		}
	}
	return unexpected
}

// processesWith lists the processes that have the text in their environment.
// Those that cannot be read are other users': not ours.
func processesWith(text string) []string {
	return processes(func(pid string) bool {
		environ, err := os.ReadFile(filepath.Join("/proc", pid, "environ"))
		return err == nil && bytes.Contains(environ, []byte(text))
	})
}

// processesOf lists the processes that run a program in dir.
func processesOf(dir string) []string {
	return processes(func(pid string) bool {
		program, err := os.Readlink(filepath.Join("/proc", pid, "exe"))
		return err == nil && strings.HasPrefix(program, dir+"/")
	})
}

func processes(match func(pid string) bool) []string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, entry := range entries {
		pid := entry.Name()
		if _, err := strconv.Atoi(pid); err != nil || !match(pid) {
			continue
		}
		arguments, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
		if err == nil && len(arguments) > 0 { // a zombie has none
			found = append(found, fmt.Sprintf("process %s: %s", pid, bytes.ReplaceAll(arguments, []byte{0}, []byte(" "))))
		}
	}
	return found
}

// keptOutput is the size of the output that stays in S3, because the job log
// could not show all of it.
func (s *stack) keptOutput(t *testing.T, j *gitlab.Job) int64 {
	t.Helper()
	var size int64
	pages := s3.NewListObjectsV2Paginator(s.s3, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String(prefix + "/jobs/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		for _, object := range page.Contents {
			key := aws.ToString(object.Key)
			if strings.Contains(key, fmt.Sprintf("/%d-", j.ID())) && strings.Contains(key, "/log/") {
				size += aws.ToInt64(object.Size)
			}
		}
	}
	return size
}
