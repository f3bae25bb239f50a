package sagemaker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssagemaker "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"golang.org/x/sync/errgroup"
)

// TrainingAPI is what training jobs ask of SageMaker.
type TrainingAPI interface {
	CreateTrainingJob(context.Context, *awssagemaker.CreateTrainingJobInput, ...func(*awssagemaker.Options)) (*awssagemaker.CreateTrainingJobOutput, error)
	DescribeTrainingJob(context.Context, *awssagemaker.DescribeTrainingJobInput, ...func(*awssagemaker.Options)) (*awssagemaker.DescribeTrainingJobOutput, error)
	StopTrainingJob(context.Context, *awssagemaker.StopTrainingJobInput, ...func(*awssagemaker.Options)) (*awssagemaker.StopTrainingJobOutput, error)
	ListTags(context.Context, *awssagemaker.ListTagsInput, ...func(*awssagemaker.Options)) (*awssagemaker.ListTagsOutput, error)
}

// Reporter tells people what is going on.
type Reporter interface {
	Line(format string, a ...any)
	Warn(format string, a ...any)
}

// Training creates, watches and stops the training jobs of one owner.
type Training struct {
	API    TrainingAPI
	Owner  Owner
	Region string
	Report Reporter
	// SilentAfter is how long Attend lets an agent be silent before it asks
	// SageMaker; 0 means a minute.
	SilentAfter time.Duration

	seen transitions
}

// Job is a training job that was created.
type Job struct {
	Name         string
	ARN          string
	InstanceType string
	Attempt      int
}

// ErrTaken says that an attempt's number is used already.
var ErrTaken = errors.New("the attempt is taken")

// Plan is what Launch is to start.
type Plan struct {
	// Request is complete but for name, instance type, how the agent starts,
	// and the owner's tags.
	Request *awssagemaker.CreateTrainingJobInput
	// InstanceTypes are tried in this order; none means that the request says
	// itself what it wants (instance groups).
	InstanceTypes []string
	// CapacityWait is how long to wait for an instance of one type.
	CapacityWait time.Duration
	// QuotaWait is how long to wait for a quota that others use up.
	QuotaWait time.Duration
	// AgentURI is where PublishAgent put the agent.
	AgentURI string
	// ImageEntrypoint runs the agent through the image's own ENTRYPOINT.
	ImageEntrypoint bool
	// Exchange makes the attempts ready.
	Exchange Exchange
}

// Exchange is where executor and container meet, one place per attempt.
type Exchange interface {
	// Open records the name of an attempt before its job is created. If the
	// number is used already the error is ErrTaken.
	Open(ctx context.Context, a Attempt) error
	// AgentArguments are the arguments of the agent for an attempt.
	AgentArguments(a Attempt) []string
	// Created is told of a job as soon as it exists, before anything is waited
	// for.
	Created(job Job) error
	// Publish sends what the container will ask for, while its instance starts.
	Publish(ctx context.Context, a Attempt) error
	// Contacted tells whether the attempt's agent has shown up.
	Contacted(ctx context.Context, a Attempt) (bool, error)
	// Withdraw undoes Open for an attempt whose job surely does not exist.
	Withdraw(ctx context.Context, a Attempt) error
}

// Attempt is one name under which a job is tried.
type Attempt struct {
	Number       int
	Name         string
	InstanceType string
	Tags         map[string]string // as sent, TagRequest included
}

// Launch creates the job on the first instance type of the plan that can be
// had, and returns when the agent in it has shown up. A job that cannot be had
// is stopped, and the next type tried under a new name. The error is a
// *QuotaError, *CapacityError, *RejectedError or *EndError where AWS's answer
// says so.
//
// When ctx ends while a create is on its way the job may exist: the intent
// that Open recorded says so to whoever cleans up.
func (t *Training) Launch(ctx context.Context, p Plan) (*Job, error) {
	l := &launch{Training: t, Plan: p, attempt: 1}
	candidates := p.InstanceTypes
	if len(candidates) == 0 {
		candidates = []string{""}
	}
	deadline := time.Now().Add(p.QuotaWait)
	for said := false; ; said = true {
		var busy []string
		for i, instanceType := range candidates {
			job, err := l.try(ctx, instanceType)
			if err == nil {
				return job, nil
			}
			var quota *QuotaError
			var capacity *CapacityError
			switch {
			case errors.As(err, &quota) && !quota.Below:
				busy = append(busy, instanceType)
				l.busy = quota
				if said {
					continue
				}
			case errors.As(err, &quota), errors.As(err, &capacity):
				l.refused = append(l.refused, err)
			default:
				return nil, l.abandon(ctx, err)
			}
			if i+1 < len(candidates) {
				t.Report.Warn("%v; trying %s", err, candidates[i+1])
			}
		}
		if len(busy) == 0 {
			return nil, l.abandon(ctx, l.verdict())
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil, l.abandon(ctx, fmt.Errorf("waited %s: %w", p.QuotaWait, l.busy))
		}
		if !said {
			t.Report.Warn("%v; waiting up to %s for it, nothing is billed meanwhile", l.busy, p.QuotaWait)
		}
		if err := sleep(ctx, min(left, quotaPoll+mrand.N(quotaPoll))); err != nil {
			return nil, l.abandon(ctx, err)
		}
		candidates = busy
	}
}

// How often things are asked for.
const (
	quotaPoll       = 20 * time.Second // and up to as much again
	contactPollMin  = 100 * time.Millisecond
	contactPollMax  = 2 * time.Second
	describePollMin = 2 * time.Second
	describePollMax = 20 * time.Second
	endPollMin      = 200 * time.Millisecond
	endPollMax      = 15 * time.Second
	withdrawTimeout = 30 * time.Second
)

// launch is one call of Launch.
type launch struct {
	*Training
	Plan
	attempt int      // the number for the next attempt that is opened
	open    *Attempt // opened, and surely without a job
	refused []error  // why instance types were given up
	busy    *QuotaError
}

// verdict says why no instance type could be had: if waiting may help, that
// comes first, for the caller decides by it.
func (l *launch) verdict() error {
	var quota error
	for _, err := range l.refused {
		var c *CapacityError
		if errors.As(err, &c) {
			return errors.Join(l.refused...)
		}
		quota = err
	}
	if len(l.refused) == 1 {
		return quota
	}
	return errors.Join(l.refused...)
}

// abandon withdraws what was opened for nothing. That must happen although
// ctx may have ended, or cleanup would look for a job that never was.
func (l *launch) abandon(ctx context.Context, err error) error {
	if l.open == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	if werr := l.Exchange.Withdraw(ctx, *l.open); werr != nil {
		l.Report.Warn("could not withdraw the intent of %s: %v", l.open.Name, werr)
	}
	return err
}

// try creates the job on one instance type and waits for its agent.
func (l *launch) try(ctx context.Context, instanceType string) (*Job, error) {
	for {
		request, err := l.prepare(ctx, instanceType)
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		a := *l.open
		l.open = nil // until it is known that nothing was created
		arn, err := l.create(ctx, request, a)
		if errors.Is(err, ErrTaken) {
			continue
		}
		if err != nil {
			return nil, err
		}
		job := &Job{Name: a.Name, ARN: arn, InstanceType: instanceType, Attempt: a.Number}
		l.Report.Line("Created training job %s: %s", job.Name, describeResources(request))
		if err := l.Exchange.Created(*job); err != nil {
			return nil, err
		}
		group, gctx := errgroup.WithContext(ctx)
		group.Go(func() error { return l.Exchange.Publish(gctx, a) })
		group.Go(func() error { return l.await(gctx, job, a) })
		if err := group.Wait(); err != nil {
			return nil, err
		}
		return job, nil
	}
}

// prepare opens an attempt, unless one is open, and completes the request.
func (l *launch) prepare(ctx context.Context, instanceType string) (*awssagemaker.CreateTrainingJobInput, error) {
	tags, err := l.Owner.Tags(tagMap(l.Request.Tags))
	if err != nil {
		return nil, &RejectedError{Name: l.Owner.TrainingJobName(l.attempt), Err: err}
	}
	for l.open == nil {
		a := Attempt{Number: l.attempt, Name: l.Owner.TrainingJobName(l.attempt), InstanceType: instanceType}
		request := types.Tag{Key: aws.String(TagRequest), Value: aws.String(rand.Text())}
		a.Tags = tagMap(append(tags, request))
		l.attempt++
		err := l.Exchange.Open(ctx, a)
		if errors.Is(err, ErrTaken) {
			continue
		}
		l.open = &a
		if err != nil {
			return nil, err
		}
	}

	in := *l.Request
	in.TrainingJobName = aws.String(l.open.Name)
	in.Tags = append(tags, types.Tag{Key: aws.String(TagRequest), Value: aws.String(l.open.Tags[TagRequest])})
	if instanceType != "" {
		resources := types.ResourceConfig{}
		if in.ResourceConfig != nil {
			resources = *in.ResourceConfig
		}
		resources.InstanceType = types.TrainingInstanceType(instanceType)
		in.ResourceConfig = &resources
	}
	in.InputDataConfig = append(append([]types.Channel{}, in.InputDataConfig...), AgentInput(l.AgentURI))

	algorithm := types.AlgorithmSpecification{}
	if in.AlgorithmSpecification != nil {
		algorithm = *in.AlgorithmSpecification
	}
	entrypoint, arguments, err := AgentCommand(l.Exchange.AgentArguments(*l.open)...)
	if err != nil {
		return nil, err
	}
	if l.ImageEntrypoint {
		// Arguments without an entrypoint are given to the image's own.
		entrypoint, arguments = nil, append(entrypoint, arguments...)
	}
	algorithm.ContainerEntrypoint, algorithm.ContainerArguments = entrypoint, arguments
	in.AlgorithmSpecification = &algorithm
	return &in, nil
}

// create sends the request and makes out whether a job came of it. If the name
// is taken by a job of somebody else, or of an earlier life, it is ErrTaken.
func (l *launch) create(ctx context.Context, in *awssagemaker.CreateTrainingJobInput, a Attempt) (string, error) {
	var sent delivery
	out, err := l.API.CreateTrainingJob(ctx, in, awssagemaker.WithAPIOptions(sent.middleware))
	if err == nil {
		return aws.ToString(out.TrainingJobArn), nil
	}
	sent.record(err)
	if sent.lost && ctx.Err() == nil {
		// An answer was lost: the job may be there, and may even be what
		// stands in its own way (its name, the quota).
		arn, mine, ferr := l.find(ctx, a)
		if mine {
			l.Report.Line("The answer to the create request was lost, but the job is there")
			return arn, nil
		}
		if ferr != nil {
			return "", fmt.Errorf("create training job %s: %w (and it is unknown whether it exists: %w)", a.Name, err, ferr)
		}
	}

	var inUse *types.ResourceInUse
	if errors.As(err, &inUse) {
		return "", l.taken(ctx, a)
	}
	if !sent.lost {
		l.open = &a // nothing was created: the name can be used again
	}
	var limit *types.ResourceLimitExceeded
	switch {
	case errors.As(err, &limit):
		return "", quotaError(a.InstanceType, QuotasURL(l.Region), limit)
	case apiCode(err) == "CapacityError", strings.Contains(apiCode(err), "InsufficientInstanceCapacity"):
		return "", &CapacityError{InstanceType: a.InstanceType, Reason: awsMessage(err)}
	case isRejected(err):
		return "", &RejectedError{Name: a.Name, Denied: isDenied(err), Err: err}
	case Throttled(err):
		return "", fmt.Errorf("create training job %s: throttled by SageMaker in %d attempts: %w", a.Name, maxAttempts, err)
	}
	return "", fmt.Errorf("create training job %s: %w", a.Name, err)
}

// taken gives up an attempt whose name belongs to another job.
func (l *launch) taken(ctx context.Context, a Attempt) error {
	l.Report.Line("There is a training job %s already, which is not this one; taking the next name", a.Name)
	if err := l.Exchange.Withdraw(ctx, a); err != nil {
		return fmt.Errorf("withdraw the intent of %s: %w", a.Name, err)
	}
	return ErrTaken
}

// find looks for the job of an attempt and tells whether it came of that very
// request.
func (t *Training) find(ctx context.Context, a Attempt) (arn string, mine bool, err error) {
	d, err := t.describe(ctx, a.Name)
	if isNotFound(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	tags, err := t.tags(ctx, aws.ToString(d.TrainingJobArn))
	if err != nil {
		return "", false, err
	}
	return aws.ToString(d.TrainingJobArn), t.Owner.Owns(tags) && tagMap(tags)[TagRequest] == a.Tags[TagRequest], nil
}

func (t *Training) describe(ctx context.Context, name string) (*awssagemaker.DescribeTrainingJobOutput, error) {
	out, err := t.API.DescribeTrainingJob(ctx, &awssagemaker.DescribeTrainingJobInput{TrainingJobName: aws.String(name)})
	if err != nil {
		return nil, fmt.Errorf("describe training job %s: %w", name, err)
	}
	return out, nil
}

func (t *Training) tags(ctx context.Context, arn string) ([]types.Tag, error) {
	var all []types.Tag
	in := &awssagemaker.ListTagsInput{ResourceArn: aws.String(arn)}
	for {
		out, err := t.API.ListTags(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("list the tags of %s: %w", arn, err)
		}
		all = append(all, out.Tags...)
		if in.NextToken = out.NextToken; aws.ToString(out.NextToken) == "" {
			return all, nil
		}
	}
}

// describeResources says in words what a request asks for.
func describeResources(in *awssagemaker.CreateTrainingJobInput) string {
	r := in.ResourceConfig
	if r == nil {
		return "resources as the spec says"
	}
	var parts []string
	switch {
	case r.InstanceType != "":
		parts = append(parts, fmt.Sprintf("%d × %s", max(1, aws.ToInt32(r.InstanceCount)), r.InstanceType))
	default:
		for _, g := range r.InstanceGroups {
			parts = append(parts, fmt.Sprintf("%d × %s", aws.ToInt32(g.InstanceCount), g.InstanceType))
		}
	}
	if aws.ToInt32(r.VolumeSizeInGB) > 0 {
		parts = append(parts, fmt.Sprintf("%d GB volume", aws.ToInt32(r.VolumeSizeInGB)))
	}
	if aws.ToBool(in.EnableManagedSpotTraining) {
		parts = append(parts, "spot")
	}
	if aws.ToInt32(r.KeepAlivePeriodInSeconds) > 0 {
		parts = append(parts, fmt.Sprintf("kept warm for %s", time.Duration(aws.ToInt32(r.KeepAlivePeriodInSeconds))*time.Second))
	}
	return strings.Join(parts, ", ")
}
