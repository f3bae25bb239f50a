package e2e_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

const (
	region = "us-east-1"
	bucket = "e2e"
	prefix = "ci"
	role   = "arn:aws:iam::000000000000:role/sagemaker-executor"
)

// stackOptions says what a stack has that others have not.
type stackOptions struct {
	dir        string
	aws        []string                    // further arguments of "local aws"
	settings   string                      // further TOML for the executor, tables last
	agent      string                      // further keys of the table [agent]
	waits      string                      // further keys of the table [waits]
	images     string                      // images.json of the local AWS
	limits     string                      // limits.json of the local AWS
	runner     func(*gitlab.RunnerOptions) // changes the runner with the executor
	middleware func(http.Handler) http.Handler
	concurrent int
	oracle     bool // with a second runner: its shell executor
	tls        bool
}

// stack is a local AWS, a GitLab coordinator with a runner whose jobs run on it,
// and, for the oracle, another pair with the runner's own shell executor.
type stack struct {
	stackOptions
	url       string
	client    *http.Client
	s3        *s3.Client
	sagemaker *sagemaker.Client
	process   *exec.Cmd
	awsLog    *os.File
	settings  string // the file
	work      string // the executor's work_dir
	sources   *sources

	gitlab, oracleGitlab *gitlab.Coordinator
	runner, oracleRunner *gitlab.RunnerProcess
}

// startStack starts a stack for one test.
func startStack(t *testing.T, options stackOptions) *stack {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e-") //nolint:usetesting // files of other users are left there; see removeAll
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() {
		for _, left := range processesOf(dir) {
			t.Errorf("a process is left: %s", left)
		}
		require.NoError(t, removeAll(dir))
	})
	options.dir = dir
	if options.concurrent == 0 {
		options.concurrent = 2
	}
	s, err := newStack(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.close())
		if t.Failed() {
			t.Logf("the runner's log:\n%s", s.runner.Log())
			log, _ := os.ReadFile(s.awsLog.Name())
			t.Logf("the local AWS's log:\n%s", last(log, 8<<10))
		}
	})
	return s
}

func newStack(ctx context.Context, options stackOptions) (s *stack, err error) {
	s = &stack{stackOptions: options, work: filepath.Join(options.dir, "work")}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	for _, sub := range []string{"aws", "work", "artifacts", "runner", "oracle", "oracle-artifacts"} {
		if err := os.MkdirAll(filepath.Join(options.dir, sub), 0o755); err != nil {
			return s, err
		}
	}
	if s.sources, err = newSources(filepath.Join(options.dir, "git")); err != nil {
		return s, err
	}
	if err := s.startAWS(ctx); err != nil {
		return s, err
	}
	if err := s.writeSettings(); err != nil {
		return s, err
	}
	s.gitlab, s.runner, err = s.startGitLab("", func(o *gitlab.RunnerOptions) {
		o.Custom = &gitlab.CustomExecutor{Command: executor, Settings: s.settings}
		o.Env = []string{"AWS_ACCESS_KEY_ID=e2e", "AWS_SECRET_ACCESS_KEY=e2e", "AWS_EC2_METADATA_DISABLED=true"}
		if options.tls {
			o.Env = append(o.Env, "AWS_CA_BUNDLE="+filepath.Join(options.dir, "aws", "ca.pem"))
		}
		if options.runner != nil {
			options.runner(o)
		}
	})
	if err != nil || !options.oracle {
		return s, err
	}
	s.oracleGitlab, s.oracleRunner, err = s.startGitLab("oracle", nil)
	return s, err
}

// startAWS starts the local AWS as the process that a user starts.
func (s *stack) startAWS(ctx context.Context) error {
	// The system may give the address to another before we use it; the health
	// check would say so.
	address, err := freeAddress()
	if err != nil {
		return err
	}
	data := filepath.Join(s.dir, "aws")
	for name, content := range map[string]string{"images.json": s.images, "limits.json": s.limits} {
		if content == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(data, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	if s.awsLog, err = os.Create(filepath.Join(s.dir, "aws.log")); err != nil {
		return err
	}
	args := append([]string{"local", "aws", "--listen", address, "--data", data}, s.aws...)
	if s.tls {
		args = append(args, "--tls")
	}
	s.process = exec.Command(executor, args...)
	s.process.Stdout, s.process.Stderr = s.awsLog, s.awsLog
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.process.Start(); err != nil {
		return err
	}
	s.url, s.client = "http://"+address, http.DefaultClient
	if s.tls {
		s.url = "https://" + address
		s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	}
	if err := s.waitHealthy(ctx); err != nil {
		log, _ := os.ReadFile(s.awsLog.Name())
		return fmt.Errorf("%w\n%s", err, log)
	}
	config := aws.Config{
		Region:       region,
		BaseEndpoint: &s.url,
		Credentials:  credentials.NewStaticCredentialsProvider("e2e", "e2e", ""),
		HTTPClient:   s.client,
	}
	s.s3 = s3.NewFromConfig(config, func(o *s3.Options) { o.UsePathStyle = true })
	s.sagemaker = sagemaker.NewFromConfig(config)
	_, err = s.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	return err
}

func (s *stack) waitHealthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/health", nil)
		if err != nil {
			return err
		}
		response, err := s.client.Do(request)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the local AWS is not ready: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *stack) writeSettings() error {
	s.settings = filepath.Join(s.dir, "sagemaker-executor.toml")
	text := fmt.Sprintf(`
region = %q
endpoint_url = %q
role_arn = %q
bucket = %q
prefix = %q
work_dir = %q

[agent]
stop_grace = "3s"
%s

[waits]
%s

[policy]
kinds = ["training", "host"]
%s
`, region, s.url, role, bucket, prefix, s.work, s.agent, s.waits, s.stackOptions.settings)
	return os.WriteFile(s.settings, []byte(text), 0o644)
}

// startGitLab starts a coordinator and a runner that asks it for jobs.
func (s *stack) startGitLab(name string, change func(*gitlab.RunnerOptions)) (*gitlab.Coordinator, *gitlab.RunnerProcess, error) {
	artifacts, dir := "artifacts", "runner"
	if name != "" {
		artifacts, dir = name+"-artifacts", name
	}
	coordinator, err := gitlab.New(gitlab.Options{Dir: filepath.Join(s.dir, artifacts), Middleware: s.middleware})
	if err != nil {
		return nil, nil, err
	}
	for project, repository := range s.sources.projects {
		if err := coordinator.AddRepository(project, repository.dir); err != nil {
			return coordinator, nil, err
		}
	}
	options := gitlab.RunnerOptions{
		Binary: runner, Coordinator: coordinator, Dir: filepath.Join(s.dir, dir), Concurrent: s.concurrent,
		ShutdownTimeout: 30 * time.Second,
	}
	if change != nil {
		change(&options)
	}
	process, err := gitlab.StartRunner(context.Background(), options)
	return coordinator, process, err
}

// close ends everything, in the order in which an administrator would.
func (s *stack) close() error {
	var errs []error
	for _, r := range []*gitlab.RunnerProcess{s.runner, s.oracleRunner} {
		if r != nil {
			errs = append(errs, r.Stop())
		}
	}
	for _, c := range []*gitlab.Coordinator{s.gitlab, s.oracleGitlab} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	if s.process != nil && s.process.Process != nil && s.process.ProcessState == nil {
		errs = append(errs, s.stopAWS())
	}
	return errors.Join(errs...)
}

func (s *stack) stopAWS() error {
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.process.Wait() }()
	select {
	case err := <-ended:
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 130 { // ended by a signal, as asked
			err = nil
		}
		if err != nil {
			log, _ := os.ReadFile(s.awsLog.Name())
			return fmt.Errorf("the local AWS: %w\n%s", err, last(log, 4<<10))
		}
		return nil
	case <-time.After(20 * time.Second):
		_ = s.process.Process.Kill()
		return errors.New("the local AWS did not end within 20 s of SIGTERM and was killed")
	}
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String(), nil
}

// removeAll removes a directory in which jobs have made files of any mode.
func removeAll(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return errors.Join(err, os.RemoveAll(dir))
}

func last(b []byte, size int) []byte {
	if len(b) > size {
		return b[len(b)-size:]
	}
	return b
}

// get reads from the local AWS's own address space (/_local/...).
func (s *stack) get(t *testing.T, path string) []byte {
	t.Helper()
	response, err := s.client.Get(s.url + path)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s: %s", path, body)
	return body
}

// post writes to the local AWS's own address space.
func (s *stack) post(t *testing.T, path, body string) {
	t.Helper()
	response, err := s.client.Post(s.url+path, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Less(t, response.StatusCode, 300, "%s: %s", path, answer)
}

func (s *stack) stopTrainingJob(t *testing.T, name string) {
	t.Helper()
	_, err := s.sagemaker.StopTrainingJob(t.Context(), &sagemaker.StopTrainingJobInput{TrainingJobName: &name})
	require.NoError(t, err)
}
