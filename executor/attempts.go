package executor

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/request"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

// attempts is the exchange as sagemaker.Launch sees it.
type attempts struct {
	*training
	clients  *sagemaker.Clients
	request  *request.Request
	workload exchange.Job
}

var _ sagemaker.Exchange = (*attempts)(nil)

// Open writes the attempt's intent.
func (a *attempts) Open(ctx context.Context, at sagemaker.Attempt) error {
	err := a.remote(a.clients, at.Number).WriteIntent(ctx, exchange.Intent{
		Kind: request.KindTraining, Name: at.Name, Attempt: at.Number,
		InstanceType: at.InstanceType, Tags: at.Tags, Created: time.Now().UTC(),
	})
	if errors.Is(err, exchange.ErrExists) {
		return fmt.Errorf("%w: %w", sagemaker.ErrTaken, err)
	}
	return err
}

// AgentArguments tell the agent where the attempt's exchange is.
func (a *attempts) AgentArguments(at sagemaker.Attempt) []string {
	return []string{
		"agent",
		"--exchange", "s3://" + a.settings.Exchange() + "/" + a.keys(at.Number).All(),
		"--region", a.clients.Region,
	}
}

// Created remembers the job for the stages that follow.
func (a *attempts) Created(j sagemaker.Job) error {
	a.log.Link("Training job", sagemaker.ConsoleURL(a.clients.Region, j.Name))
	a.log.Link("CloudWatch log", sagemaker.LogsURL(a.clients.Region, j.Name))
	a.state.Name, a.state.Attempt, a.state.InstanceType = j.Name, j.Attempt, j.InstanceType
	a.state.ModelURI = modelURI(a.request.Create.OutputDataConfig, j.Name)
	return a.save()
}

// modelURI is where SageMaker puts the model of a job.
func modelURI(out *types.OutputDataConfig, name string) string {
	uri := strings.TrimSuffix(aws.ToString(out.S3OutputPath), "/") + "/" + name + "/output/"
	if out.CompressionType == types.OutputCompressionTypeNone {
		return uri + "model/"
	}
	return uri + "model.tar.gz"
}

// Publish sends the project, and shows that the executor is alive meanwhile.
func (a *attempts) Publish(ctx context.Context, at sagemaker.Attempt) error {
	r := a.remote(a.clients, at.Number)
	beat, stop := context.WithCancel(ctx)
	defer stop()
	go r.Beat(beat)
	started := time.Now()
	project, tmp, err := a.roots(a.workload.ProjectDir)
	if err != nil {
		return err
	}
	defer project.Close()
	defer tmp.Close()
	if err := r.Publish(ctx, a.workload, project, tmp); err != nil {
		return fmt.Errorf("send the project to the container: %w", err)
	}
	a.log.Line("Sent the project in %s", time.Since(started).Round(10*time.Millisecond))
	return nil
}

// Contacted looks for the first beat of the agent.
func (a *attempts) Contacted(ctx context.Context, at sagemaker.Attempt) (bool, error) {
	_, err := exchange.GetJSON[exchange.Beat](ctx, a.store(a.clients), a.keys(at.Number).AgentBeat(exchange.FirstHost))
	if errors.Is(err, exchange.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Withdraw removes the attempt from the exchange.
func (a *attempts) Withdraw(ctx context.Context, at sagemaker.Attempt) error {
	return a.remote(a.clients, at.Number).Delete(ctx)
}

// workload says what the agent is to run and to bring back.
func (t *training) workload(req *request.Request, project string) exchange.Job {
	w := exchange.Job{
		ProjectDir:     project,
		TmpDir:         project + ".tmp",
		Image:          req.Image,
		Variables:      map[string]string{},
		Masked:         t.job.Variables.Masked(),
		MaskedPrefixes: t.job.MaskPrefixes,
		CloudWatch:     exchange.CloudWatch(t.settings.Agent.CloudWatch),
		StopGrace:      exchange.Duration(t.settings.Agent.StopGrace),
		DeadAfter:      exchange.Duration(t.settings.Agent.DeadAfter),
		Hosts:          req.Instances,
		Labels: map[string]string{
			sagemaker.TagProjectPath: t.job.ProjectPath,
			sagemaker.TagRef:         t.job.Ref,
			sagemaker.TagCommit:      t.job.SHA,
			sagemaker.TagJobID:       strconv.FormatInt(t.job.ID, 10),
		},
	}
	if req.Entrypoint.Mode == request.EntrypointExplicit {
		w.Entrypoint = req.Entrypoint.Args
	}
	for _, m := range req.Metrics {
		w.Metrics = append(w.Metrics, m.Regex)
	}
	for _, key := range t.job.Variables.Keys() {
		w.Variables[key] = t.job.Variables.Get(key)
	}
	for _, artifact := range t.job.Artifacts {
		w.Artifacts = append(w.Artifacts, exchange.Pattern{Paths: artifact.Paths, Exclude: artifact.Exclude, Untracked: artifact.Untracked})
	}
	for _, cache := range t.job.Cache {
		if cache.Policy != "pull" {
			w.Cache = append(w.Cache, exchange.Pattern{Paths: cache.Paths, Untracked: cache.Untracked})
		}
	}
	return w
}
