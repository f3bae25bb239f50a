package sagemaker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssm "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/stretchr/testify/require"
)

func TestListTrainingJobs(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.StartDelay = time.Hour })
	for i := range 25 {
		f.create(request(fmt.Sprintf("job-%02d", i), "true"))
	}
	f.stop("job-03")
	f.finished("job-03")
	list := func(in *awssm.ListTrainingJobsInput) (names []string) {
		pages := awssm.NewListTrainingJobsPaginator(f.client, in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			require.NoError(t, err)
			for _, s := range page.TrainingJobSummaries {
				names = append(names, *s.TrainingJobName)
			}
		}
		return names
	}
	require.Len(t, list(&awssm.ListTrainingJobsInput{}), 25)
	first, err := f.client.ListTrainingJobs(t.Context(), &awssm.ListTrainingJobsInput{})
	require.NoError(t, err)
	require.Len(t, first.TrainingJobSummaries, 10)
	require.Nil(t, first.TrainingJobSummaries[0].TrainingEndTime)
	require.Nil(t, first.TrainingJobSummaries[0].WarmPoolStatus)
	ascending := list(&awssm.ListTrainingJobsInput{SortBy: types.SortByName, SortOrder: types.SortOrderAscending, MaxResults: aws.Int32(7)})
	require.Equal(t, "job-00", ascending[0])
	require.Equal(t, "job-24", ascending[24])
	require.Equal(t, []string{"job-03"}, list(&awssm.ListTrainingJobsInput{StatusEquals: types.TrainingJobStatusStopped}))
	require.Len(t, list(&awssm.ListTrainingJobsInput{NameContains: aws.String("JOB-1")}), 10)
	middle := f.describe("job-12").CreationTime
	var before, after []string // several may have been created in one millisecond
	for _, name := range ascending {
		switch c := f.describe(name).CreationTime; {
		case c.Before(*middle):
			before = append(before, name)
		case c.After(*middle):
			after = append(after, name)
		}
	}
	require.NotEmpty(t, before)
	require.NotEmpty(t, after)
	require.ElementsMatch(t, after, list(&awssm.ListTrainingJobsInput{CreationTimeAfter: middle}))
	require.ElementsMatch(t, before, list(&awssm.ListTrainingJobsInput{CreationTimeBefore: middle}))
	require.Empty(t, list(&awssm.ListTrainingJobsInput{LastModifiedTimeBefore: f.describe("job-00").CreationTime}))
	require.Empty(t, list(&awssm.ListTrainingJobsInput{WarmPoolStatusEquals: types.WarmPoolResourceStatusAvailable}))
	_, err = f.client.ListTrainingJobs(t.Context(), &awssm.ListTrainingJobsInput{NextToken: aws.String("%")})
	require.ErrorContains(t, err, "ValidationException: Invalid NextToken")
}

func TestTags(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	in := request("tagged", "true")
	in.Tags = []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}}
	d := f.run(in)
	_, err := f.client.AddTags(t.Context(), &awssm.AddTagsInput{
		ResourceArn: d.TrainingJobArn,
		Tags:        []types.Tag{{Key: aws.String("a"), Value: aws.String("2")}, {Key: aws.String("b"), Value: aws.String("")}},
	})
	require.NoError(t, err)
	_, err = f.client.DeleteTags(t.Context(), &awssm.DeleteTagsInput{ResourceArn: d.TrainingJobArn, TagKeys: []string{"b"}})
	require.NoError(t, err)
	tags, err := f.client.ListTags(t.Context(), &awssm.ListTagsInput{ResourceArn: d.TrainingJobArn})
	require.NoError(t, err)
	require.Len(t, tags.Tags, 1)
	require.Equal(t, "2", *tags.Tags[0].Value)
	require.Nil(t, tags.NextToken)
	_, err = f.client.ListTags(t.Context(), &awssm.ListTagsInput{ResourceArn: aws.String("arn:aws:sagemaker:us-east-1:123456789012:training-job/gone")})
	require.ErrorContains(t, err, "Requested resource not found.")
}

func TestSearch(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for i, owner := range []string{"ann", "bob", "ann"} {
		in := request(fmt.Sprintf("search-%d", i), fmt.Sprintf("echo loss=%d; exit %d", i, i%2))
		in.Tags = []types.Tag{{Key: aws.String("gitlab:owner"), Value: aws.String(owner)}}
		in.HyperParameters = map[string]string{"lr": fmt.Sprint(i)}
		in.AlgorithmSpecification.MetricDefinitions = []types.MetricDefinition{{Name: aws.String("loss"), Regex: aws.String("loss=(.*)")}}
		f.run(in)
	}
	filter := func(name string, op types.Operator, value string) types.Filter {
		return types.Filter{Name: aws.String(name), Operator: op, Value: aws.String(value)}
	}
	for name, c := range map[string]struct {
		e    types.SearchExpression
		want string
	}{
		"name":        {types.SearchExpression{Filters: []types.Filter{filter("TrainingJobName", "Contains", "SEARCH-1")}}, "search-1"},
		"status":      {types.SearchExpression{Filters: []types.Filter{filter("TrainingJobStatus", "Equals", "Completed")}}, "search-0 search-2"},
		"tag":         {types.SearchExpression{Filters: []types.Filter{filter("Tags.gitlab:owner", "Equals", "ann")}}, "search-0 search-2"},
		"tag-and":     {types.SearchExpression{Filters: []types.Filter{filter("Tags.gitlab:owner", "Equals", "ann"), filter("HyperParameters.lr", "GreaterThan", "1")}}, "search-2"},
		"metric":      {types.SearchExpression{Filters: []types.Filter{filter("Metrics.loss", "LessThanOrEqualTo", "1")}}, "search-0 search-1"},
		"in":          {types.SearchExpression{Filters: []types.Filter{filter("TrainingJobName", "In", "search-0,search-1")}}, "search-0 search-1"},
		"not-equals":  {types.SearchExpression{Filters: []types.Filter{filter("Tags.gitlab:owner", "NotEquals", "ann")}}, "search-1"},
		"exists":      {types.SearchExpression{Filters: []types.Filter{{Name: aws.String("FailureReason"), Operator: "Exists"}}}, "search-1"},
		"not-exists":  {types.SearchExpression{Filters: []types.Filter{{Name: aws.String("FailureReason"), Operator: "NotExists"}}}, "search-0 search-2"},
		"created":     {types.SearchExpression{Filters: []types.Filter{filter("CreationTime", "LessThan", "2020-01-01T00:00:00Z")}}, ""},
		"sub-or":      {types.SearchExpression{Operator: "Or", SubExpressions: []types.SearchExpression{{Filters: []types.Filter{filter("TrainingJobName", "Equals", "search-0")}}, {Filters: []types.Filter{filter("TrainingJobStatus", "Equals", "Failed")}}}}, "search-0 search-1"},
		"nested-tags": {types.SearchExpression{NestedFilters: []types.NestedFilters{{NestedPropertyName: aws.String("Tags"), Filters: []types.Filter{filter("Tags.Key", "Equals", "gitlab:owner"), filter("Tags.Value", "Equals", "bob")}}}}, "search-1"},
	} {
		t.Run(name, func(t *testing.T) {
			pages := awssm.NewSearchPaginator(f.client, &awssm.SearchInput{
				Resource: types.ResourceTypeTrainingJob, SearchExpression: &c.e,
				SortBy: aws.String("TrainingJobName"), SortOrder: types.SearchSortOrderAscending, MaxResults: aws.Int32(1),
			})
			var names []string
			for pages.HasMorePages() {
				page, err := pages.NextPage(t.Context())
				require.NoError(t, err)
				for _, r := range page.Results {
					names = append(names, *r.TrainingJob.TrainingJobName)
				}
			}
			require.Equal(t, c.want, strings.Join(names, " "))
		})
	}
}
