package sagemaker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssagemaker "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeAWS is a SageMaker whose jobs do as their instance type says. Its clock
// is the test's.
type fakeAWS struct {
	mu   sync.Mutex
	jobs map[string]*fakeJob
	// creates answers the n-th create of an instance type (from 1) before the
	// job is made; done means that the job is made all the same.
	creates func(instanceType string, n int) (err error, done bool)
	// reason is the FailureReason with which jobs of an instance type fail at
	// once; pending says which never start.
	reason  map[string]string
	pending map[string]bool

	sent    map[string]int // creates by instance type
	stopped []string
}

type fakeJob struct {
	in      *awssagemaker.CreateTrainingJobInput
	stopped bool
}

func (f *fakeAWS) CreateTrainingJob(_ context.Context, in *awssagemaker.CreateTrainingJobInput, _ ...func(*awssagemaker.Options)) (*awssagemaker.CreateTrainingJobOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kind := string(in.ResourceConfig.InstanceType)
	if f.sent == nil {
		f.sent = map[string]int{}
	}
	f.sent[kind]++
	name := aws.ToString(in.TrainingJobName)
	var err error
	done := true
	if f.creates != nil {
		err, done = f.creates(kind, f.sent[kind])
	}
	if done {
		if f.jobs[name] != nil {
			return nil, &types.ResourceInUse{Message: aws.String("Training job names must be unique")}
		}
		if f.jobs == nil {
			f.jobs = map[string]*fakeJob{}
		}
		f.jobs[name] = &fakeJob{in: in}
	}
	if err != nil {
		return nil, err
	}
	return &awssagemaker.CreateTrainingJobOutput{TrainingJobArn: aws.String("arn:" + name)}, nil
}

func (f *fakeAWS) DescribeTrainingJob(_ context.Context, in *awssagemaker.DescribeTrainingJobInput, _ ...func(*awssagemaker.Options)) (*awssagemaker.DescribeTrainingJobOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := aws.ToString(in.TrainingJobName)
	j := f.jobs[name]
	if j == nil {
		return nil, &smithy.GenericAPIError{Code: "ValidationException", Message: "Requested resource not found."}
	}
	kind := string(j.in.ResourceConfig.InstanceType)
	out := &awssagemaker.DescribeTrainingJobOutput{
		TrainingJobName: in.TrainingJobName, TrainingJobArn: aws.String("arn:" + name),
		TrainingJobStatus: types.TrainingJobStatusInProgress, SecondaryStatus: types.SecondaryStatusTraining,
	}
	switch {
	case j.stopped:
		out.TrainingJobStatus, out.SecondaryStatus = types.TrainingJobStatusStopped, types.SecondaryStatusStopped
	case f.reason[kind] != "":
		out.TrainingJobStatus, out.SecondaryStatus = types.TrainingJobStatusFailed, types.SecondaryStatusFailed
		out.FailureReason = aws.String(f.reason[kind])
	case f.pending[kind]:
		out.SecondaryStatus = types.SecondaryStatusPending
	}
	return out, nil
}

func (f *fakeAWS) StopTrainingJob(_ context.Context, in *awssagemaker.StopTrainingJobInput, _ ...func(*awssagemaker.Options)) (*awssagemaker.StopTrainingJobOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := aws.ToString(in.TrainingJobName)
	f.stopped = append(f.stopped, name)
	j := f.jobs[name]
	if j == nil {
		return nil, &smithy.GenericAPIError{Code: "ValidationException", Message: "Requested resource not found."}
	}
	if j.stopped {
		return nil, &smithy.GenericAPIError{Code: "ValidationException", Message: "The request was rejected because the training job is in status Stopped."}
	}
	j.stopped = true
	return &awssagemaker.StopTrainingJobOutput{}, nil
}

func (f *fakeAWS) ListTags(_ context.Context, in *awssagemaker.ListTagsInput, _ ...func(*awssagemaker.Options)) (*awssagemaker.ListTagsOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j := f.jobs[strings.TrimPrefix(aws.ToString(in.ResourceArn), "arn:")]
	// One tag a page, as AWS may.
	i := len(aws.ToString(in.NextToken))
	out := &awssagemaker.ListTagsOutput{Tags: j.in.Tags[i : i+1]}
	if i+1 < len(j.in.Tags) {
		out.NextToken = aws.String(strings.Repeat("x", i+1))
	}
	return out, nil
}

// fakeExchange is an exchange in memory, with agents on the instance types
// that start.
type fakeExchange struct {
	mu        sync.Mutex
	aws       *fakeAWS
	taken     map[int]bool
	openErr   error
	published error
	intents   map[int]Attempt
	created   []Job
	withdrawn []int
}

func (e *fakeExchange) Open(_ context.Context, a Attempt) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.taken[a.Number] {
		return fmt.Errorf("s3: %w", ErrTaken)
	}
	if e.intents == nil {
		e.intents = map[int]Attempt{}
	}
	e.intents[a.Number] = a
	return e.openErr
}

func (e *fakeExchange) AgentArguments(a Attempt) []string {
	return []string{"agent", "--exchange", fmt.Sprintf("s3://b/%d/", a.Number)}
}

func (e *fakeExchange) Created(j Job) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.created = append(e.created, j)
	return nil
}

func (e *fakeExchange) Publish(context.Context, Attempt) error { return e.published }

func (e *fakeExchange) Contacted(ctx context.Context, a Attempt) (bool, error) {
	d, err := e.aws.DescribeTrainingJob(ctx, &awssagemaker.DescribeTrainingJobInput{TrainingJobName: aws.String(a.Name)})
	return err == nil && d.SecondaryStatus == types.SecondaryStatusTraining, nil
}

func (e *fakeExchange) Withdraw(_ context.Context, a Attempt) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.intents, a.Number)
	e.withdrawn = append(e.withdrawn, a.Number)
	return nil
}

// lines is a Reporter that keeps what was said.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Line(format string, a ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, fmt.Sprintf(format, a...))
}
func (l *lines) Warn(format string, a ...any) { l.Line(format, a...) }
func (l *lines) String() string               { return strings.Join(l.all, "\n") }

func quota(limit, used, delta int) error {
	return &types.ResourceLimitExceeded{Message: aws.String(fmt.Sprintf(
		"The account-level service limit 'ml.p3.2xlarge for training job usage' is %d Instances, with current utilization of %d Instances and a request delta of %d Instances. Please use AWS Service Quotas to request an increase for this quota.", limit, used, delta))}
}

// lost is an answer that never came.
var errLost = errors.New("read tcp: i/o timeout")

func apiError(code, message string, status int) error {
	return &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
		Err:      &smithy.GenericAPIError{Code: code, Message: message},
	}
}

func TestLaunch(t *testing.T) {
	t.Parallel()

	const capacity = "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."
	always := func(err error) func(string, int) (error, bool) {
		return func(string, int) (error, bool) { return err, err == nil }
	}
	onA := func(err error) func(string, int) (error, bool) {
		return func(kind string, _ int) (error, bool) {
			if kind == "ml.a" {
				return err, err == nil
			}
			return nil, true
		}
	}
	tests := map[string]struct {
		aws       *fakeAWS // nil: one that gives everything
		exchange  *fakeExchange
		types     []string // empty: ml.a, ml.b
		cancel    time.Duration
		want      string // instance type
		attempt   int
		check     func(t *testing.T, err error)
		intents   []int         // that are left
		stopped   int           // number of jobs
		took      time.Duration // at most
		atLeast   time.Duration
		said      string
		jobsAlive int // in AWS, not stopped
	}{
		"at once": {want: "ml.a", attempt: 1, intents: []int{1}, took: time.Second, jobsAlive: 1},
		"an attempt number is used already": {
			exchange: &fakeExchange{taken: map[int]bool{1: true, 2: true}},
			want:     "ml.a", attempt: 3, intents: []int{3}, jobsAlive: 1, took: time.Second,
		},
		"capacity error: the next type under a new name": {
			aws:  &fakeAWS{reason: map[string]string{"ml.a": capacity}},
			want: "ml.b", attempt: 2, intents: []int{1, 2}, said: "trying ml.b", jobsAlive: 2, took: 10 * time.Second,
		},
		"pending for too long: stopped, the next type": {
			aws:  &fakeAWS{pending: map[string]bool{"ml.a": true}},
			want: "ml.b", attempt: 2, intents: []int{1, 2}, stopped: 1, jobsAlive: 1,
			atLeast: 10 * time.Minute, took: 11 * time.Minute,
		},
		"no capacity anywhere": {
			aws: &fakeAWS{reason: map[string]string{"ml.a": capacity}, pending: map[string]bool{"ml.b": true}},
			check: func(t *testing.T, err error) {
				var c *CapacityError
				require.ErrorAs(t, err, &c)
				assert.ErrorContains(t, err, capacity, "AWS's own words")
				assert.ErrorContains(t, err, "ml.b")
			},
			intents: []int{1, 2}, stopped: 1, jobsAlive: 1, atLeast: 10 * time.Minute, took: 11 * time.Minute,
		},
		"quota below the demand: the next type, same name": {
			aws:  &fakeAWS{creates: onA(quota(0, 0, 1))},
			want: "ml.b", attempt: 1, intents: []int{1}, said: "trying ml.b", jobsAlive: 1, took: time.Second,
		},
		"quota below the demand everywhere": {
			aws: &fakeAWS{creates: always(quota(1, 0, 2))},
			check: func(t *testing.T, err error) {
				var q *QuotaError
				require.ErrorAs(t, err, &q)
				assert.True(t, q.Below)
				assert.ErrorContains(t, err, "https://eu-west-1.console.aws.amazon.com/servicequotas")
				assert.ErrorContains(t, err, "is 1 Instances", "AWS's own words")
			},
			intents: []int{}, took: time.Second,
		},
		"quota in use: waits until it is free": {
			types: []string{"ml.a"},
			aws: &fakeAWS{creates: func(_ string, n int) (error, bool) {
				if n < 4 {
					return quota(2, 2, 1), false
				}
				return nil, true
			}},
			want: "ml.a", attempt: 1, intents: []int{1}, jobsAlive: 1, said: "waiting up to 30m0s", atLeast: time.Minute, took: 3 * time.Minute,
		},
		"quota in use for too long": {
			aws: &fakeAWS{creates: always(quota(2, 2, 1))},
			check: func(t *testing.T, err error) {
				var q *QuotaError
				require.ErrorAs(t, err, &q)
				assert.False(t, q.Below)
				assert.ErrorContains(t, err, "waited 30m0s")
			},
			intents: []int{}, atLeast: 30 * time.Minute, took: 31 * time.Minute,
		},
		"a limit without figures counts as in use": {
			types: []string{"ml.a"},
			aws:   &fakeAWS{creates: always(&types.ResourceLimitExceeded{Message: aws.String("too many training jobs")})},
			check: func(t *testing.T, err error) { assert.ErrorContains(t, err, "too many training jobs") },
			took:  31 * time.Minute, atLeast: 30 * time.Minute, intents: []int{},
		},
		"the answer was lost, the job is there": {
			aws:  &fakeAWS{creates: func(string, int) (error, bool) { return errLost, true }},
			want: "ml.a", attempt: 1, intents: []int{1}, jobsAlive: 1, took: time.Second,
		},
		"the answer was lost and nothing is there": {
			aws:   &fakeAWS{creates: always(errLost)},
			check: func(t *testing.T, err error) { assert.ErrorIs(t, err, errLost) },
			// It may still come: cleanup must look.
			intents: []int{1}, took: time.Second,
		},
		"an internal error of AWS, the job is there": {
			aws:  &fakeAWS{creates: func(string, int) (error, bool) { return apiError("InternalFailure", "oops", 500), true }},
			want: "ml.a", attempt: 1, intents: []int{1}, jobsAlive: 1, took: time.Second,
		},
		"the request is wrong": {
			aws: &fakeAWS{creates: always(apiError("ValidationException", "MaxRuntimeInSeconds is too large", 400))},
			check: func(t *testing.T, err error) {
				var r *RejectedError
				require.ErrorAs(t, err, &r)
				assert.False(t, r.Denied)
				assert.ErrorContains(t, err, "MaxRuntimeInSeconds is too large")
			},
			intents: []int{}, took: time.Second,
		},
		"not allowed": {
			aws: &fakeAWS{creates: always(apiError("AccessDeniedException", "not authorized to perform: iam:PassRole", 400))},
			check: func(t *testing.T, err error) {
				var r *RejectedError
				require.ErrorAs(t, err, &r)
				assert.True(t, r.Denied)
				assert.ErrorContains(t, err, "iam:PassRole")
			},
			intents: []int{}, took: time.Second,
		},
		"throttled for good": {
			aws: &fakeAWS{creates: always(apiError("ThrottlingException", "Rate exceeded", 400))},
			check: func(t *testing.T, err error) {
				assert.ErrorContains(t, err, "throttled")
				assert.True(t, Throttled(err))
			},
			intents: []int{}, took: time.Second,
		},
		"the image cannot start": {
			aws: &fakeAWS{reason: map[string]string{"ml.a": "ClientError: pull access denied"}},
			check: func(t *testing.T, err error) {
				var e *EndError
				require.ErrorAs(t, err, &e)
				assert.Equal(t, Client, e.Ending)
				assert.ErrorContains(t, err, "pull access denied")
			},
			intents: []int{1}, jobsAlive: 1, took: 10 * time.Second,
		},
		"the exchange fails": {
			exchange: &fakeExchange{openErr: errLost},
			check:    func(t *testing.T, err error) { assert.ErrorIs(t, err, errLost) },
			intents:  []int{}, took: time.Second,
		},
		"the project cannot be sent": {
			exchange: &fakeExchange{published: errLost},
			check:    func(t *testing.T, err error) { assert.ErrorIs(t, err, errLost) },
			intents:  []int{1}, jobsAlive: 1, took: time.Second,
		},
		"cancelled while a quota is waited for": {
			aws:     &fakeAWS{creates: always(quota(2, 2, 1))},
			cancel:  5 * time.Minute,
			check:   func(t *testing.T, err error) { assert.ErrorIs(t, err, context.DeadlineExceeded) },
			intents: []int{}, took: 5 * time.Minute,
		},
		"cancelled while the instance starts": {
			aws:     &fakeAWS{pending: map[string]bool{"ml.a": true}},
			cancel:  time.Minute,
			check:   func(t *testing.T, err error) { assert.ErrorIs(t, err, context.DeadlineExceeded) },
			intents: []int{1}, jobsAlive: 1, took: time.Minute, // cleanup stops it
		},
		"cancelled before anything": {
			cancel:  time.Nanosecond,
			check:   func(t *testing.T, err error) { assert.ErrorIs(t, err, context.DeadlineExceeded) },
			intents: []int{}, took: time.Second,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				report := &lines{}
				f, ex := tt.aws, tt.exchange
				if f == nil {
					f = &fakeAWS{}
				}
				if ex == nil {
					ex = &fakeExchange{}
				}
				ex.aws = f
				tr := &Training{API: f, Owner: Owner{Instance: "i", ProjectID: 7, JobID: 1}, Region: "eu-west-1", Report: report}
				ctx := t.Context()
				if tt.cancel > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.cancel)
					defer cancel()
					if tt.cancel < time.Second {
						time.Sleep(time.Second) // on the test's own clock
					}
				}
				if tt.types == nil {
					tt.types = []string{"ml.a", "ml.b"}
				}
				start := time.Now()
				job, err := tr.Launch(ctx, Plan{
					Request:       &awssagemaker.CreateTrainingJobInput{Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("ml")}}},
					InstanceTypes: tt.types, CapacityWait: 10 * time.Minute, QuotaWait: 30 * time.Minute,
					AgentURI: "s3://b/bin/x/", Exchange: ex,
				})
				took := time.Since(start)
				if tt.check != nil {
					require.Error(t, err)
					tt.check(t, err)
				} else {
					require.NoError(t, err)
					assert.Equal(t, tt.want, job.InstanceType)
					assert.Equal(t, tt.attempt, job.Attempt)
					assert.Equal(t, tr.Owner.TrainingJobName(tt.attempt), job.Name)
					require.NotEmpty(t, ex.created)
					assert.Equal(t, *job, ex.created[len(ex.created)-1])
					assertRequest(t, f.jobs[job.Name].in, ex.intents[job.Attempt])
				}
				assert.ElementsMatch(t, tt.intents, slices.Collect(maps.Keys(ex.intents)), "intents that are left for cleanup")
				assert.Len(t, f.stopped, tt.stopped)
				alive := 0
				for _, j := range f.jobs {
					if !j.stopped {
						alive++
					}
				}
				assert.Equal(t, tt.jobsAlive, alive)
				assert.LessOrEqual(t, took, tt.took)
				assert.GreaterOrEqual(t, took, tt.atLeast)
				assert.Contains(t, report.String(), tt.said)
			})
		})
	}
}

// assertRequest checks what Launch adds to a request.
func assertRequest(t *testing.T, in *awssagemaker.CreateTrainingJobInput, intent Attempt) {
	t.Helper()
	got := tagMap(in.Tags)
	assert.Equal(t, intent.Tags, got, "the intent records the tags as sent")
	assert.Equal(t, "1", got[TagJobID])
	assert.Equal(t, "ml", got["team"])
	assert.NotEmpty(t, got[TagRequest])
	assert.Equal(t, []types.Channel{AgentInput("s3://b/bin/x/")}, in.InputDataConfig)
	assert.Equal(t, "/bin/sh", in.AlgorithmSpecification.ContainerEntrypoint[0])
	assert.Equal(t, []string{"agent", "--exchange", fmt.Sprintf("s3://b/%d/", intent.Number)}, in.AlgorithmSpecification.ContainerArguments)
}

func TestLaunchTakesTheNextNameIfAnotherJobHasIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		owner := Owner{Instance: "i", ProjectID: 7, JobID: 1}
		// A job of an earlier life: same owner, another request.
		f := &fakeAWS{jobs: map[string]*fakeJob{owner.TrainingJobName(1): {in: &awssagemaker.CreateTrainingJobInput{
			Tags:           append(must(owner.Tags(nil)), types.Tag{Key: aws.String(TagRequest), Value: aws.String("old")}),
			ResourceConfig: &types.ResourceConfig{InstanceType: "ml.a"},
		}}}}
		ex := &fakeExchange{aws: f}
		tr := &Training{API: f, Owner: owner, Report: &lines{}}
		job, err := tr.Launch(t.Context(), Plan{
			Request: &awssagemaker.CreateTrainingJobInput{}, InstanceTypes: []string{"ml.a"}, Exchange: ex, AgentURI: "s3://b/",
		})
		require.NoError(t, err)
		assert.Equal(t, 2, job.Attempt)
		assert.Equal(t, []int{1}, ex.withdrawn)
		assert.Empty(t, f.stopped)
	})
}

// TestLaunchRecognisesItsJobAfterALostAnswer goes through the real SDK: the
// first answer never comes, the SDK's own second attempt finds the name taken.
func TestLaunchRecognisesItsJobAfterALostAnswer(t *testing.T) {
	t.Parallel()
	var creates int
	var tags json.RawMessage
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		switch _, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); operation {
		case "CreateTrainingJob":
			if creates++; creates == 1 {
				var in struct{ Tags json.RawMessage }
				assert.NoError(t, json.NewDecoder(r.Body).Decode(&in))
				tags = in.Tags
				panic(http.ErrAbortHandler) // the connection breaks
			}
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"__type":"ResourceInUse","Message":"Training job names must be unique"}`)
		case "DescribeTrainingJob":
			fmt.Fprint(w, `{"TrainingJobArn":"arn:x","TrainingJobStatus":"InProgress","SecondaryStatus":"Training"}`)
		case "ListTags":
			fmt.Fprintf(w, `{"Tags":%s}`, tags)
		}
	}))
	defer server.Close()
	clients, err := NewClients(t.Context(), Options{Region: "eu-west-1", EndpointURL: server.URL, LimitDir: t.TempDir()})
	require.NoError(t, err)
	api := awssagemaker.New(clients.SageMaker.Options(), func(o *awssagemaker.Options) {
		o.Credentials = credentials.NewStaticCredentialsProvider("k", "s", "")
	})

	ex := &contacted{}
	tr := &Training{API: api, Owner: Owner{Instance: "i", ProjectID: 7, JobID: 1}, Report: &lines{}}
	job, err := tr.Launch(t.Context(), Plan{
		Request: &awssagemaker.CreateTrainingJobInput{
			AlgorithmSpecification: &types.AlgorithmSpecification{TrainingInputMode: types.TrainingInputModeFile},
			RoleArn:                aws.String("arn:aws:iam::123456789012:role/x"),
			OutputDataConfig:       &types.OutputDataConfig{S3OutputPath: aws.String("s3://b/")},
			ResourceConfig:         &types.ResourceConfig{},
			StoppingCondition:      &types.StoppingCondition{},
		},
		InstanceTypes: []string{"ml.m5.large"}, Exchange: ex, AgentURI: "s3://b/",
	})
	require.NoError(t, err)
	assert.Equal(t, 1, job.Attempt)
	assert.Equal(t, "arn:x", job.ARN)
	assert.Empty(t, ex.withdrawn)
	assert.Equal(t, 2, creates)
}

// contacted is an exchange whose agent is there at once.
type contacted struct{ fakeExchange }

func (*contacted) Contacted(context.Context, Attempt) (bool, error) { return true, nil }
