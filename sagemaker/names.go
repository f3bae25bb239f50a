package sagemaker

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

// Tag keys that this executor sets. A job belongs to the owner whose instance,
// project and job id its tags name; the others inform.
const (
	TagInstance    = "gitlab:instance"
	TagProjectID   = "gitlab:project-id"
	TagProjectPath = "gitlab:project-path"
	TagPipelineID  = "gitlab:pipeline-id"
	TagJobID       = "gitlab:job-id"
	TagRef         = "gitlab:ref"
	TagCommit      = "gitlab:commit"
	TagKind        = "gitlab:kind"
	TagRunner      = "gitlab:runner"
	// TagRequest tells one CreateTrainingJob request from any other, so that a
	// request whose answer was lost can recognise the job it made.
	TagRequest = "gitlab:request"
)

// AWS's limits for names and tags (API model of SageMaker).
const (
	maxName     = 63
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// Owner says whose a SageMaker resource is. Instance, ProjectID and JobID come
// from what GitLab vouches for; the rest is information for humans.
type Owner struct {
	Instance  string // short name or hash of the GitLab server
	ProjectID int64
	JobID     int64

	JobName     string
	ProjectPath string
	PipelineID  string
	Ref         string
	Commit      string
	Kind        string
	Runner      string
}

// TrainingJobName returns the name of the owner's training job for an attempt
// counted from 1: gitlab-<instance>-<job id>-<attempt>-<what the job is
// called>, at most 63 characters of SageMaker's alphabet, a hash in place of
// what was cut off.
func (o Owner) TrainingJobName(attempt int) string {
	unique := fmt.Sprintf("gitlab-%s-%d-%d", slug(o.Instance), o.JobID, attempt)
	name := strings.Trim(unique+"-"+slug(o.JobName), "-")
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(fmt.Sprintf("%s\x00%d\x00%d\x00%s", o.Instance, o.JobID, attempt, o.JobName)))
	hash := hex.EncodeToString(sum[:4])
	return strings.TrimRight(name[:maxName-len(hash)-1], "-") + "-" + hash
}

// slug maps a text to lower-case letters, digits and single hyphens.
func slug(s string) string {
	var b strings.Builder
	hyphen := true // no hyphen at the start
	for _, r := range strings.ToLower(s) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
			hyphen = false
		case !hyphen:
			b.WriteByte('-')
			hyphen = true
		}
	}
	return strings.TrimRight(b.String(), "-")
}

// Tags returns the owner's tags and the administrator's extra ones, mapped to
// AWS's alphabet and sizes, in the order of their keys. The owner's own win
// over extra ones of the same key; empty ones are left out.
func (o Owner) Tags(extra map[string]string) ([]types.Tag, error) {
	all := map[string]string{}
	for k, v := range extra {
		if reserved(k) {
			return nil, fmt.Errorf("the tag %q cannot be set: keys that begin with gitlab: or aws: are reserved", k)
		}
		all[tagText(k, maxTagKey)] = tagText(v, maxTagValue)
	}
	for k, v := range map[string]string{
		TagInstance:    o.Instance,
		TagProjectID:   strconv.FormatInt(o.ProjectID, 10),
		TagProjectPath: o.ProjectPath,
		TagPipelineID:  o.PipelineID,
		TagJobID:       strconv.FormatInt(o.JobID, 10),
		TagRef:         o.Ref,
		TagCommit:      o.Commit,
		TagKind:        o.Kind,
		TagRunner:      o.Runner,
	} {
		if v != "" {
			all[k] = tagText(v, maxTagValue)
		}
	}
	if len(all) >= maxTags { // one is kept free for TagRequest
		return nil, fmt.Errorf("%d tags are more than SageMaker's %d: remove some from the settings or the spec", len(all)+1, maxTags)
	}
	tags := make([]types.Tag, 0, len(all)+1)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		tags = append(tags, types.Tag{Key: aws.String(k), Value: aws.String(all[k])})
	}
	return tags, nil
}

// Owns tells whether a resource with these tags is the owner's. What carries
// another owner's tags, or none, is not ours to stop, update or delete.
func (o Owner) Owns(tags []types.Tag) bool {
	got := tagMap(tags)
	return got[TagInstance] == tagText(o.Instance, maxTagValue) &&
		got[TagProjectID] == strconv.FormatInt(o.ProjectID, 10) &&
		got[TagJobID] == strconv.FormatInt(o.JobID, 10)
}

func tagMap(tags []types.Tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return m
}

func reserved(key string) bool {
	k := strings.ToLower(key)
	return strings.HasPrefix(k, "gitlab:") || strings.HasPrefix(k, "aws:")
}

// tagText maps a text to the characters that AWS allows in tags
// (\p{L}\p{Z}\p{N}_.:/=+-@), others becoming an underscore, cut to a number of
// characters.
func tagText(s string, limit int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n == limit {
			break
		}
		if !unicode.In(r, unicode.L, unicode.Z, unicode.N) && !strings.ContainsRune("_.:/=+-@", r) {
			r = '_'
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}
