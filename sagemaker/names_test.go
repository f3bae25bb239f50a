package sagemaker

import (
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTrainingJobName(t *testing.T) {
	t.Parallel()

	valid := regexp.MustCompile(`^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$`) // the API model's pattern
	long := strings.Repeat("train on all of the data ", 9)
	tests := map[string]struct {
		owner   Owner
		attempt int
		want    string // empty: only checked for validity
	}{
		"plain":         {Owner{Instance: "1a2b3c4d", JobID: 401, JobName: "train"}, 1, "gitlab-1a2b3c4d-401-1-train"},
		"matrix":        {Owner{Instance: "x", JobID: 1, JobName: "train: [0.1, Ümlaut]"}, 12, "gitlab-x-1-12-train-0-1-mlaut"},
		"no job name":   {Owner{Instance: "x", JobID: 1}, 1, "gitlab-x-1-1"},
		"only symbols":  {Owner{Instance: "x", JobID: 1, JobName: "🚀"}, 1, "gitlab-x-1-1"},
		"long":          {Owner{Instance: "x", JobID: 1, JobName: long}, 1, ""},
		"long instance": {Owner{Instance: strings.Repeat("gitlab.example.com", 9), JobID: 1 << 60, JobName: long}, 1, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := tt.owner.TrainingJobName(tt.attempt)
			assert.Regexp(t, valid, got)
			if tt.want != "" {
				assert.Equal(t, tt.want, got)
			}
			assert.NotEqual(t, got, tt.owner.TrainingJobName(tt.attempt+1))
			other := tt.owner
			other.JobID++
			assert.NotEqual(t, got, other.TrainingJobName(tt.attempt))
		})
	}
}

func TestTags(t *testing.T) {
	t.Parallel()

	o := Owner{Instance: "abc", ProjectID: 7, JobID: 401, Ref: "feature/a&b", ProjectPath: "group/démo", Kind: "training"}
	tags, err := o.Tags(map[string]string{"team": "ml <research>"})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{
		TagInstance: "abc", TagProjectID: "7", TagJobID: "401", TagRef: "feature/a_b",
		TagProjectPath: "group/démo", TagKind: "training", "team": "ml _research_",
	}, tagMap(tags))

	_, err = o.Tags(map[string]string{"GitLab:job-id": "1"})
	assert.ErrorContains(t, err, "reserved")

	many := map[string]string{}
	for i := range 50 {
		many[strings.Repeat("k", i+1)] = "v"
	}
	_, err = o.Tags(many)
	assert.ErrorContains(t, err, "more than SageMaker's 50")

	long, err := Owner{Ref: strings.Repeat("é", 300)}.Tags(nil)
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat("é", 256), tagMap(long)[TagRef])
}

func TestOwns(t *testing.T) {
	t.Parallel()

	o := Owner{Instance: "abc", ProjectID: 7, JobID: 401}
	mine, err := o.Tags(nil)
	require.NoError(t, err)
	tests := map[string]struct {
		tags []types.Tag
		want bool
	}{
		"own":             {mine, true},
		"none":            {nil, false},
		"another job":     {must(Owner{Instance: "abc", ProjectID: 7, JobID: 402}.Tags(nil)), false},
		"another server":  {must(Owner{Instance: "abd", ProjectID: 7, JobID: 401}.Tags(nil)), false},
		"another project": {must(Owner{Instance: "abc", ProjectID: 8, JobID: 401}.Tags(nil)), false},
		"only the job id": {[]types.Tag{{Key: aws.String(TagJobID), Value: aws.String("401")}}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tt.want, o.Owns(tt.tags))
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
