package sagemaker

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

type searchRequest struct {
	Resource         string
	SearchExpression *searchExpression
	SortBy           string
	SortOrder        string
	MaxResults       int
	NextToken        string
}

type searchExpression struct {
	Filters        []searchFilter
	NestedFilters  []nestedFilters
	SubExpressions []searchExpression
	Operator       string
}

type searchFilter struct{ Name, Operator, Value string }

type nestedFilters struct {
	NestedPropertyName string
	Filters            []searchFilter
}

type searchAnswer struct {
	Results   []object
	NextToken string `json:",omitempty"`
	TotalHits object
}

func (s *Service) search(_ context.Context, in *searchRequest) (*searchAnswer, error) {
	if in.Resource != "TrainingJob" {
		return nil, validation("Search over the resource %q is not available in the local SageMaker; it has TrainingJob.", in.Resource)
	}
	all, err := s.plainJobs()
	if err != nil {
		return nil, err
	}
	var found []object
	for _, d := range all {
		ok, err := in.SearchExpression.matches(d)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, d)
		}
	}
	by := cmp.Or(in.SortBy, "LastModifiedTime")
	slices.SortStableFunc(found, func(a, b object) int {
		c := compareValues(first(values(a, by)), first(values(b, by)))
		if in.SortOrder != "Ascending" {
			c = -c
		}
		return c
	})
	page, next, err := paginate(found, in.NextToken, in.MaxResults, maxPage)
	if err != nil {
		return nil, err
	}
	answer := &searchAnswer{Results: []object{}, NextToken: next, TotalHits: object{"Value": len(found), "Relation": "EqualTo"}}
	for _, d := range page {
		answer.Results = append(answer.Results, object{"TrainingJob": d})
	}
	return answer, nil
}

// plainJobs are the descriptions of all jobs, tags included, as plain JSON, in
// the order of their names.
func (s *Service) plainJobs() ([]object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []object
	for _, j := range s.jobs {
		d := s.describe(j)
		delete(d, "WarmPoolStatus")
		if len(j.Tags) > 0 {
			d["Tags"] = j.Tags
		}
		b, err := json.Marshal(d)
		if err != nil {
			return nil, fmt.Errorf("encode job %s: %w", j.Name, err)
		}
		var plain object
		if err := decode(b, &plain); err != nil {
			return nil, err
		}
		all = append(all, plain)
	}
	slices.SortFunc(all, func(a, b object) int {
		return compareValues(a["TrainingJobName"], b["TrainingJobName"])
	})
	return all, nil
}

func (e *searchExpression) matches(d object) (bool, error) {
	if e == nil {
		return true, nil
	}
	var results []bool
	for _, f := range e.Filters {
		ok, err := f.matches(d, f.Name)
		if err != nil {
			return false, err
		}
		results = append(results, ok)
	}
	for _, n := range e.NestedFilters {
		ok, err := n.matches(d)
		if err != nil {
			return false, err
		}
		results = append(results, ok)
	}
	for i := range e.SubExpressions {
		ok, err := e.SubExpressions[i].matches(d)
		if err != nil {
			return false, err
		}
		results = append(results, ok)
	}
	if e.Operator == "Or" && len(results) > 0 {
		return slices.Contains(results, true), nil
	}
	return !slices.Contains(results, false), nil
}

// matches holds when one element of the nested list satisfies every filter.
func (n *nestedFilters) matches(d object) (bool, error) {
	for _, element := range values(d, n.NestedPropertyName) {
		o, ok := element.(object)
		if !ok {
			continue
		}
		all := true
		for _, f := range n.Filters {
			ok, err := f.matches(o, strings.TrimPrefix(f.Name, n.NestedPropertyName+"."))
			if err != nil {
				return false, err
			}
			all = all && ok
		}
		if all {
			return true, nil
		}
	}
	return false, nil
}

func (f *searchFilter) matches(d object, name string) (bool, error) {
	found := values(d, name)
	holds := func(f func(any) bool) bool { return slices.ContainsFunc(found, f) }
	switch op := cmp.Or(f.Operator, "Equals"); op {
	case "Exists":
		return len(found) > 0, nil
	case "NotExists":
		return len(found) == 0, nil
	case "Equals":
		return holds(func(v any) bool { return compareText(v, f.Value) == 0 }), nil
	case "NotEquals":
		return !holds(func(v any) bool { return compareText(v, f.Value) == 0 }), nil
	case "GreaterThan":
		return holds(func(v any) bool { return compareText(v, f.Value) > 0 }), nil
	case "GreaterThanOrEqualTo":
		return holds(func(v any) bool { return compareText(v, f.Value) >= 0 }), nil
	case "LessThan":
		return holds(func(v any) bool { return compareText(v, f.Value) < 0 }), nil
	case "LessThanOrEqualTo":
		return holds(func(v any) bool { return compareText(v, f.Value) <= 0 }), nil
	case "Contains":
		return holds(func(v any) bool {
			return strings.Contains(strings.ToLower(text(v)), strings.ToLower(f.Value))
		}), nil
	case "In":
		return holds(func(v any) bool {
			return slices.ContainsFunc(strings.Split(f.Value, ","), func(one string) bool { return compareText(v, strings.TrimSpace(one)) == 0 })
		}), nil
	default:
		return false, validation("Invalid operator %q in the filter %q.", op, f.Name)
	}
}

// values finds every value at a property path: "A.B", lists on the way
// included. Tags are found by key ("Tags.project"), metrics by name
// ("Metrics.loss"), and names in a map may hold dots.
func values(v any, path string) []any {
	if path == "" {
		if list, ok := v.([]any); ok {
			return list
		}
		return []any{v}
	}
	switch v := v.(type) {
	case []any:
		var found []any
		for _, e := range v {
			found = append(found, values(e, path)...)
		}
		return found
	case object:
		if name, ok := strings.CutPrefix(path, "Metrics."); ok {
			return named(v["FinalMetricDataList"], "MetricName", name, "Value")
		}
		if key, ok := strings.CutPrefix(path, "Tags."); ok && key != "Key" && key != "Value" {
			return named(v["Tags"], "Key", key, "Value")
		}
		if whole, ok := v[path]; ok {
			return values(whole, "")
		}
		head, rest, _ := strings.Cut(path, ".")
		next, ok := v[head]
		if !ok || next == nil {
			return nil
		}
		return values(next, rest)
	}
	return nil
}

func named(list any, nameMember, name, valueMember string) []any {
	var found []any
	elements, _ := list.([]any)
	for _, e := range elements {
		if o, ok := e.(object); ok && o[nameMember] == name {
			found = append(found, o[valueMember])
		}
	}
	return found
}

func first(vs []any) any {
	if len(vs) == 0 {
		return nil
	}
	return vs[0]
}

func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	}
	return fmt.Sprint(v)
}

// compareText compares a value with a filter's text: numbers as numbers, times
// given in ISO 8601 as times, the rest as text.
func compareText(v any, want string) int {
	if n, ok := v.(json.Number); ok {
		have, err := n.Float64()
		if err == nil {
			if w, err := strconv.ParseFloat(want, 64); err == nil {
				return cmp.Compare(have, w)
			}
			if t, err := time.Parse(time.RFC3339, want); err == nil {
				return cmp.Compare(have, float64(t.UnixMilli())/1000)
			}
		}
	}
	return cmp.Compare(text(v), want)
}

func compareValues(a, b any) int {
	if n, ok := b.(json.Number); ok {
		return compareText(a, n.String())
	}
	return cmp.Compare(text(a), text(b))
}
