package sagemaker

import (
	"cmp"
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
)

const (
	defaultPage = 10  // of ListTrainingJobs
	maxPage     = 100 // of both ListTrainingJobs and Search
)

type listRequest struct {
	CreationTimeAfter      *epoch
	CreationTimeBefore     *epoch
	LastModifiedTimeAfter  *epoch
	LastModifiedTimeBefore *epoch
	MaxResults             int
	NameContains           string
	NextToken              string
	SortBy                 string
	SortOrder              string
	StatusEquals           string
	TrainingPlanArnEquals  string
	WarmPoolStatusEquals   string
}

type listAnswer struct {
	TrainingJobSummaries []object
	NextToken            string `json:",omitempty"`
}

func (in *listRequest) matches(r *record) bool {
	plan := ""
	if rc, ok := r.Request["ResourceConfig"].(object); ok {
		plan, _ = rc["TrainingPlanArn"].(string)
	}
	pool := ""
	if r.WarmPool != nil {
		pool = r.WarmPool.Status
	}
	return (in.CreationTimeAfter == nil || r.Created.time().After(in.CreationTimeAfter.time())) &&
		(in.CreationTimeBefore == nil || r.Created.time().Before(in.CreationTimeBefore.time())) &&
		(in.LastModifiedTimeAfter == nil || r.Modified.time().After(in.LastModifiedTimeAfter.time())) &&
		(in.LastModifiedTimeBefore == nil || r.Modified.time().Before(in.LastModifiedTimeBefore.time())) &&
		strings.Contains(strings.ToLower(r.Name), strings.ToLower(in.NameContains)) &&
		(in.StatusEquals == "" || r.Status == in.StatusEquals) &&
		(in.TrainingPlanArnEquals == "" || plan == in.TrainingPlanArnEquals) &&
		(in.WarmPoolStatusEquals == "" || pool == in.WarmPoolStatusEquals)
}

func (s *Service) listTrainingJobs(_ context.Context, in *listRequest) (*listAnswer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*job
	for _, j := range s.jobs {
		if in.matches(&j.record) {
			found = append(found, j)
		}
	}
	slices.SortFunc(found, func(a, b *job) int {
		var c int
		switch in.SortBy {
		case "Name":
			c = cmp.Compare(a.Name, b.Name)
		case "Status":
			c = cmp.Compare(a.Status, b.Status)
		default:
			c = a.Created.time().Compare(b.Created.time())
		}
		c = cmp.Or(c, cmp.Compare(a.Name, b.Name))
		if in.SortOrder != "Ascending" {
			c = -c
		}
		return c
	})
	page, next, err := paginate(found, in.NextToken, in.MaxResults, defaultPage)
	if err != nil {
		return nil, err
	}
	answer := &listAnswer{TrainingJobSummaries: []object{}, NextToken: next}
	for _, j := range page {
		r := j.record
		if j.WarmPool != nil {
			pool := *j.WarmPool
			r.WarmPool = &pool
		}
		answer.TrainingJobSummaries = append(answer.TrainingJobSummaries, r.summary())
	}
	return answer, nil
}

// paginate cuts the page out of all that a token continues.
func paginate[T any](all []T, token string, size, defaultSize int) (page []T, next string, err error) {
	start := 0
	if token != "" {
		b, err := base64.RawURLEncoding.DecodeString(token)
		if err == nil {
			start, err = strconv.Atoi(string(b))
		}
		if err != nil || start < 0 {
			return nil, "", validation("Invalid NextToken: %s", token)
		}
	}
	if size <= 0 {
		size = defaultSize
	}
	start = min(start, len(all))
	end := min(start+size, len(all))
	if end < len(all) {
		next = base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(end)))
	}
	return all[start:end], next, nil
}
