package pipeline

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

// jobIDTag is the tag by which a training job tells which CI job it belongs to.
const jobIDTag = "gitlab:job-id"

func (e *environment) s3() *s3.Client {
	return s3.New(s3.Options{
		Region: region, BaseEndpoint: awssdk.String(e.aws.URL), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(keyID, secret, ""),
	})
}

func (e *environment) sagemaker() *sagemaker.Client {
	return sagemaker.New(sagemaker.Options{
		Region: region, BaseEndpoint: awssdk.String(e.aws.URL),
		Credentials: credentials.NewStaticCredentialsProvider(keyID, secret, ""),
	})
}

// fetchModels copies what the training jobs of a CI job left in S3 (the model,
// and other outputs beside it) into dir, and returns the files.
func (e *environment) fetchModels(ctx context.Context, jobID int64, dir string) ([]string, error) {
	jobs, err := e.trainingJobs(ctx, jobID)
	if err != nil {
		return nil, fmt.Errorf("look for models: %w", err)
	}
	var files []string
	for _, job := range jobs {
		if job.ModelArtifacts == nil || job.TrainingJobStatus != types.TrainingJobStatusCompleted {
			continue
		}
		uri := awssdk.ToString(job.ModelArtifacts.S3ModelArtifacts)
		from, key, ok := strings.Cut(strings.TrimPrefix(uri, "s3://"), "/")
		if !ok {
			continue
		}
		found, err := e.download(ctx, from, path.Dir(key)+"/", dir)
		if err != nil {
			return nil, fmt.Errorf("fetch the model of %s: %w", awssdk.ToString(job.TrainingJobName), err)
		}
		files = append(files, found...)
	}
	return files, nil
}

// trainingJobs finds the training jobs of a CI job by their tags.
func (e *environment) trainingJobs(ctx context.Context, jobID int64) ([]*sagemaker.DescribeTrainingJobOutput, error) {
	client := e.sagemaker()
	var found []*sagemaker.DescribeTrainingJobOutput
	pages := sagemaker.NewListTrainingJobsPaginator(client, &sagemaker.ListTrainingJobsInput{CreationTimeAfter: awssdk.Time(e.started)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, summary := range page.TrainingJobSummaries {
			tags, err := client.ListTags(ctx, &sagemaker.ListTagsInput{ResourceArn: summary.TrainingJobArn})
			if err != nil {
				return nil, err
			}
			for _, tag := range tags.Tags {
				if awssdk.ToString(tag.Key) != jobIDTag || awssdk.ToString(tag.Value) != strconv.FormatInt(jobID, 10) {
					continue
				}
				job, err := client.DescribeTrainingJob(ctx, &sagemaker.DescribeTrainingJobInput{TrainingJobName: summary.TrainingJobName})
				if err != nil {
					return nil, err
				}
				found = append(found, job)
			}
		}
	}
	return found, nil
}

// download copies the objects right below a prefix.
func (e *environment) download(ctx context.Context, from, prefix, dir string) ([]string, error) {
	client := e.s3()
	objects, err := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &from, Prefix: &prefix, Delimiter: awssdk.String("/")})
	if err != nil {
		return nil, err
	}
	var files []string
	for _, object := range objects.Contents {
		file := filepath.Join(dir, path.Base(awssdk.ToString(object.Key)))
		if err := copyObject(ctx, client, from, awssdk.ToString(object.Key), file); err != nil {
			return nil, err
		}
		// A job that wrote nothing has an empty archive all the same.
		if empty, err := emptyArchive(file); err != nil {
			return nil, err
		} else if empty {
			if err := os.Remove(file); err != nil {
				return nil, err
			}
			_ = os.Remove(dir) // if nothing else is in it
			continue
		}
		files = append(files, file)
	}
	return files, nil
}

// emptyArchive reports whether a .tar.gz holds no file.
func emptyArchive(file string) (bool, error) {
	if !strings.HasSuffix(file, ".tar.gz") {
		return false, nil
	}
	opened, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer opened.Close()
	unzipped, err := gzip.NewReader(opened)
	if err != nil {
		return false, nil // SageMaker left something else: it is kept as it is
	}
	for entries := tar.NewReader(unzipped); ; {
		header, err := entries.Next()
		switch {
		case errors.Is(err, io.EOF):
			return true, nil
		case err != nil:
			return false, nil
		case header.Typeflag != tar.TypeDir:
			return false, nil
		}
	}
}

func copyObject(ctx context.Context, client *s3.Client, from, key, file string) error {
	object, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &from, Key: &key})
	if err != nil {
		return err
	}
	defer object.Body.Close()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	// What is there may be a link, of the job's artifacts: it is not followed.
	_ = os.Remove(file)
	target, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, object.Body)
	return errors.Join(err, target.Close())
}
