package logs

import (
	"context"
	"maps"
)

type tagResourceInput struct {
	ResourceARN  string            `json:"resourceArn"`
	LogGroupName string            `json:"logGroupName"`
	Tags         map[string]string `json:"tags"`
}

type untagResourceInput struct {
	ResourceARN  string   `json:"resourceArn"`
	LogGroupName string   `json:"logGroupName"`
	TagKeys      []string `json:"tagKeys"`
	Tags         []string `json:"tags"` // the older operation's name for them
}

type tagsOutput struct {
	Tags map[string]string `json:"tags"`
}

func (s *Service) tagResource(_ context.Context, in *tagResourceInput) (*nothing, error) {
	return nil, s.tag(nameOf(in.ResourceARN), in.Tags, nil)
}

func (s *Service) tagLogGroup(_ context.Context, in *tagResourceInput) (*nothing, error) {
	return nil, s.tag(in.LogGroupName, in.Tags, nil)
}

func (s *Service) untagResource(_ context.Context, in *untagResourceInput) (*nothing, error) {
	return nil, s.tag(nameOf(in.ResourceARN), nil, in.TagKeys)
}

func (s *Service) untagLogGroup(_ context.Context, in *untagResourceInput) (*nothing, error) {
	return nil, s.tag(in.LogGroupName, nil, in.Tags)
}

func (s *Service) tag(name string, add map[string]string, remove []string) error {
	g, err := s.store.group(name)
	if err != nil {
		return err
	}
	return g.change(func(i *groupInfo) {
		tags := maps.Clone(i.Tags) // a reader may hold the old map
		if tags == nil {
			tags = map[string]string{}
		}
		maps.Copy(tags, add)
		for _, k := range remove {
			delete(tags, k)
		}
		i.Tags = tags
	})
}

func (s *Service) listTagsForResource(_ context.Context, in *tagResourceInput) (*tagsOutput, error) {
	return s.tags(nameOf(in.ResourceARN))
}

func (s *Service) listTagsLogGroup(_ context.Context, in *tagResourceInput) (*tagsOutput, error) {
	return s.tags(in.LogGroupName)
}

func (s *Service) tags(name string) (*tagsOutput, error) {
	g, err := s.store.group(name)
	if err != nil {
		return nil, err
	}
	tags := g.info().Tags
	if tags == nil {
		tags = map[string]string{}
	}
	return &tagsOutput{Tags: tags}, nil
}
