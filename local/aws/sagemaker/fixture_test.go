package sagemaker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssm "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sagemaker/container"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sandbox"
)

const (
	testImage = "123456789012.dkr.ecr.us-east-1.amazonaws.com/train:1"
	testRole  = "arn:aws:iam::123456789012:role/execution"
)

// memoryObjects is an S3 in memory with one bucket, "bucket", and one that
// nobody may read, "secret".
type memoryObjects struct {
	mu      sync.Mutex
	objects map[string][]byte
	deleted []string
}

func (m *memoryObjects) check(bucket string) error {
	switch bucket {
	case "bucket":
		return nil
	case "secret":
		return fs.ErrPermission
	}
	return fs.ErrNotExist
}

func (m *memoryObjects) List(_ context.Context, bucket, prefix string) ([]Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(bucket); err != nil {
		return nil, err
	}
	var list []Object
	for _, k := range slices.Sorted(maps.Keys(m.objects)) {
		if strings.HasPrefix(k, prefix) {
			list = append(list, Object{Key: k, Size: int64(len(m.objects[k]))})
		}
	}
	return list, nil
}

func (m *memoryObjects) Open(_ context.Context, bucket, key string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(bucket); err != nil {
		return nil, err
	}
	b, ok := m.objects[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (m *memoryObjects) Put(_ context.Context, bucket, key string, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(bucket); err != nil {
		return err
	}
	m.objects[key] = b
	return nil
}

func (m *memoryObjects) Delete(_ context.Context, bucket, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	m.deleted = append(m.deleted, key)
	return m.check(bucket)
}

func (m *memoryObjects) put(key, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[key] = []byte(text)
}

func (m *memoryObjects) get(key string) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.objects[key]
	return string(b), ok
}

// memoryLogs keeps every stream.
type memoryLogs struct {
	mu      sync.Mutex
	streams map[string][]string
}

func (m *memoryLogs) PutEvents(_ context.Context, group, stream string, events []LogEvent) error {
	if group != "/aws/sagemaker/TrainingJobs" {
		return errors.New("wrong group " + group)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range events {
		m.streams[stream] = append(m.streams[stream], e.Message)
	}
	return nil
}

// lines are all lines of a job's streams whose names hold part.
func (m *memoryLogs) lines(job, part string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for _, s := range slices.Sorted(maps.Keys(m.streams)) {
		if strings.HasPrefix(s, job+"/"+part) {
			all = append(all, m.streams[s]...)
		}
	}
	return all
}

type faultFunc func(job map[string]any) (JobFault, bool)

func (f faultFunc) Take(job map[string]any) (JobFault, bool) { return f(job) }

// fixture is a service behind HTTP, driven by AWS's Go client.
type fixture struct {
	*testing.T
	service *Service
	client  *awssm.Client
	objects *memoryObjects
	logs    *memoryLogs
	url     string
	dir     string
}

func newFixture(t *testing.T, change func(*Options)) *fixture {
	t.Helper()
	f := &fixture{T: t, objects: &memoryObjects{objects: map[string][]byte{}}, logs: &memoryLogs{streams: map[string][]string{}}}
	f.dir = t.TempDir()
	f.start(change)
	return f
}

// start starts a server on the fixture's directory; a second one is a restart.
func (f *fixture) start(change func(*Options)) {
	f.Helper()
	opts := Options{
		Data: filepath.Join(f.dir, "data"), Objects: func(string) Objects { return f.objects }, Logs: f.logs,
		Runtime: container.NewSandbox(filepath.Join(f.dir, "images.json")), Limits: filepath.Join(f.dir, "limits.json"),
		StopGrace: 10 * time.Second,
	}
	if change != nil {
		change(&opts)
	}
	service, err := New(opts)
	require.NoError(f, err)
	server := httptest.NewServer(service)
	f.Cleanup(func() {
		server.Close()
		require.NoError(f, service.Close())
		left, err := os.ReadDir(service.scratchDir())
		require.NoError(f, err)
		require.Empty(f, left, "scratch space is left")
	})
	f.service, f.url = service, server.URL
	f.client = awssm.New(awssm.Options{
		BaseEndpoint: aws.String(server.URL), Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
}

func (f *fixture) write(name, content string) {
	f.Helper()
	require.NoError(f, os.WriteFile(filepath.Join(f.dir, name), []byte(content), 0o600))
}

// request is a job that runs a shell script.
func request(name, script string) *awssm.CreateTrainingJobInput {
	return &awssm.CreateTrainingJobInput{
		TrainingJobName: aws.String(name), RoleArn: aws.String(testRole),
		AlgorithmSpecification: &types.AlgorithmSpecification{
			TrainingImage: aws.String(testImage), TrainingInputMode: types.TrainingInputModeFile,
			ContainerEntrypoint: []string{"/bin/sh", "-c", script},
		},
		OutputDataConfig:  &types.OutputDataConfig{S3OutputPath: aws.String("s3://bucket/out/")},
		ResourceConfig:    &types.ResourceConfig{InstanceType: types.TrainingInstanceTypeMlM5Large, InstanceCount: aws.Int32(1), VolumeSizeInGB: aws.Int32(1)},
		StoppingCondition: &types.StoppingCondition{MaxRuntimeInSeconds: aws.Int32(600)},
	}
}

func (f *fixture) create(in *awssm.CreateTrainingJobInput) {
	f.Helper()
	_, err := f.client.CreateTrainingJob(f.Context(), in)
	require.NoError(f, err)
}

func (f *fixture) describe(name string) *awssm.DescribeTrainingJobOutput {
	f.Helper()
	d, err := f.client.DescribeTrainingJob(f.Context(), &awssm.DescribeTrainingJobInput{TrainingJobName: aws.String(name)})
	require.NoError(f, err)
	return d
}

// until waits until the job's description satisfies the condition.
func (f *fixture) until(name string, condition func(*awssm.DescribeTrainingJobOutput) bool) *awssm.DescribeTrainingJobOutput {
	f.Helper()
	deadline := time.After(time.Minute)
	for {
		d := f.describe(name)
		if condition(d) {
			return d
		}
		select {
		case <-deadline:
			f.Fatalf("%s is still %s/%s; log: %q", name, d.TrainingJobStatus, d.SecondaryStatus, f.logs.lines(name, ""))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (f *fixture) finished(name string) *awssm.DescribeTrainingJobOutput {
	f.Helper()
	return f.until(name, func(d *awssm.DescribeTrainingJobOutput) bool {
		return d.TrainingJobStatus != types.TrainingJobStatusInProgress && d.TrainingJobStatus != types.TrainingJobStatusStopping
	})
}

// logged waits for a line of the job's log.
func (f *fixture) logged(name, line string) {
	f.Helper()
	f.until(name, func(*awssm.DescribeTrainingJobOutput) bool { return slices.Contains(f.logs.lines(name, ""), line) })
}

func (f *fixture) run(in *awssm.CreateTrainingJobInput) *awssm.DescribeTrainingJobOutput {
	f.Helper()
	f.create(in)
	return f.finished(*in.TrainingJobName)
}

// secondaries are the secondary statuses that a job went through.
func secondaries(d *awssm.DescribeTrainingJobOutput) []string {
	var list []string
	for _, t := range d.SecondaryStatusTransitions {
		list = append(list, string(t.Status))
	}
	return list
}

func (f *fixture) writeTree(files map[string]string) {
	f.Helper()
	for name, content := range files {
		require.NoError(f, os.MkdirAll(filepath.Dir(filepath.Join(f.dir, name)), 0o755))
		require.NoError(f, os.WriteFile(filepath.Join(f.dir, name), []byte(content), 0o644))
	}
}

// requireLimits skips where the kernel lets nobody limit memory; in CI that
// fails.
func (f *fixture) requireLimits() {
	f.Helper()
	if err := sandbox.LimitsAvailable(); err != nil {
		if os.Getenv("CI") == "true" {
			f.Fatal(err)
		}
		f.Skip(err)
	}
}
