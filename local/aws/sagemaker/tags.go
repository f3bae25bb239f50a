package sagemaker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const maxTags = 50 // per resource

func (s *Service) forget(j *job) error {
	if err := os.Remove(filepath.Join(s.jobsDir(), j.Name+".json")); err != nil {
		return fmt.Errorf("delete job %s: %w", j.Name, err)
	}
	delete(s.jobs, j.Name)
	return nil
}

type tagsRequest struct {
	ResourceArn string
	Tags        []Tag
	TagKeys     []string
	MaxResults  int
	NextToken   string
}

type tagsAnswer struct {
	Tags      []Tag
	NextToken string `json:",omitempty"`
}

// tagged finds the resource of an ARN. The caller holds s.mu.
func (s *Service) tagged(arn string) (*job, error) {
	_, name, ok := strings.Cut(arn, ":training-job/")
	if !ok {
		return nil, validation("Unable to find the resource %s: the local SageMaker tags training jobs only.", arn)
	}
	j, err := s.find(name)
	if err == nil && !strings.EqualFold(j.ARN, arn) {
		return nil, errNotFound()
	}
	return j, err
}

func (s *Service) addTags(_ context.Context, in *tagsRequest) (*tagsAnswer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := s.tagged(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	tags := slices.Clone(j.Tags)
	for _, t := range in.Tags {
		if i := slices.IndexFunc(tags, func(o Tag) bool { return o.Key == t.Key }); i >= 0 {
			tags[i] = t
		} else {
			tags = append(tags, t)
		}
	}
	if len(tags) > maxTags {
		return nil, &APIError{Code: "ResourceLimitExceeded", Message: fmt.Sprintf("The resource %s would have %d tags; the limit is %d.", in.ResourceArn, len(tags), maxTags)}
	}
	j.Tags = tags
	s.changed(j)
	return &tagsAnswer{Tags: tags}, nil
}

func (s *Service) listTags(_ context.Context, in *tagsRequest) (*tagsAnswer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := s.tagged(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	page, next, err := paginate(j.Tags, in.NextToken, in.MaxResults, maxTags)
	if err != nil {
		return nil, err
	}
	return &tagsAnswer{Tags: append([]Tag{}, page...), NextToken: next}, nil
}

func (s *Service) deleteTags(_ context.Context, in *tagsRequest) (*object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := s.tagged(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	j.Tags = slices.DeleteFunc(slices.Clone(j.Tags), func(t Tag) bool { return slices.Contains(in.TagKeys, t.Key) })
	s.changed(j)
	return &object{}, nil
}
