package model

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// job is a CreateTrainingJob request that AWS accepts.
func job() map[string]any {
	return map[string]any{
		"TrainingJobName":        "job-1",
		"AlgorithmSpecification": map[string]any{"TrainingInputMode": "File", "TrainingImage": "123456789012.dkr.ecr.us-east-1.amazonaws.com/image:1"},
		"RoleArn":                "arn:aws:iam::123456789012:role/trainer",
		"OutputDataConfig":       map[string]any{"S3OutputPath": "s3://bucket/models"},
		"ResourceConfig":         map[string]any{"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
		"StoppingCondition":      map[string]any{"MaxRuntimeInSeconds": 3600},
		"HyperParameters":        map[string]any{"epochs": "3"},
		"Tags":                   []any{map[string]any{"Key": "gitlab:ref", "Value": "größe/1"}},
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	names := "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
	for name, c := range map[string]struct {
		change func(map[string]any)
		want   string
	}{
		"a good one":     {func(map[string]any) {}, ""},
		"unknown member": {func(j map[string]any) { j["NoSuchMember"] = 1 }, ""},
		"null member":    {func(j map[string]any) { j["VpcConfig"] = nil }, ""},
		"required": {
			func(j map[string]any) { delete(j, "RoleArn") },
			"ValidationException: 1 validation error detected: Value null at 'roleArn' failed to satisfy constraint: Member must not be null",
		},
		"nested and required": {
			func(j map[string]any) { j["InputDataConfig"] = []any{map[string]any{"ChannelName": "train"}} },
			"ValidationException: 1 validation error detected: Value null at 'inputDataConfig.1.member.dataSource' failed to satisfy constraint: Member must not be null",
		},
		"pattern": {
			func(j map[string]any) { j["TrainingJobName"] = "under_score" },
			"ValidationException: 1 validation error detected: Value 'under_score' at 'trainingJobName' failed to satisfy constraint: Member must satisfy regular expression pattern: " + names,
		},
		"two": {
			func(j map[string]any) {
				j["TrainingJobName"] = strings.Repeat("x", 64)
			},
			"ValidationException: 2 validation errors detected: Value '" + strings.Repeat("x", 64) + "' at 'trainingJobName' failed to satisfy constraint: Member must have length less than or equal to 63; Value '" +
				strings.Repeat("x", 64) + "' at 'trainingJobName' failed to satisfy constraint: Member must satisfy regular expression pattern: " + names,
		},
		"range": {
			func(j map[string]any) { j["ResourceConfig"].(map[string]any)["KeepAlivePeriodInSeconds"] = -1 },
			"ValidationException: 1 validation error detected: Value '-1' at 'resourceConfig.keepAlivePeriodInSeconds' failed to satisfy constraint: Member must have value greater than or equal to 0",
		},
		"enum": {
			func(j map[string]any) { j["AlgorithmSpecification"].(map[string]any)["TrainingInputMode"] = "Flie" },
			"ValidationException: 1 validation error detected: Value 'Flie' at 'algorithmSpecification.trainingInputMode' failed to satisfy constraint: Member must satisfy enum value set: [Pipe, File, FastFile]",
		},
		"map value": {
			func(j map[string]any) { j["Environment"] = map[string]any{"A": strings.Repeat("x", 513)} },
			"ValidationException: 1 validation error detected: Value '{A=" + strings.Repeat("x", 513) + "}' at 'environment' failed to satisfy constraint: Map value must satisfy constraint: [Member must have length less than or equal to 512, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: [\\S\\s]*]",
		},
		"list length": {
			func(j map[string]any) {
				j["AlgorithmSpecification"].(map[string]any)["ContainerArguments"] = []any{}
			},
			"ValidationException: 1 validation error detected: Value '[]' at 'algorithmSpecification.containerArguments' failed to satisfy constraint: Member must have length greater than or equal to 1",
		},
		"type": {
			func(j map[string]any) { j["ResourceConfig"].(map[string]any)["InstanceCount"] = "1" },
			"SerializationException: STRING_VALUE can not be converted to an Integer at 'resourceConfig.instanceCount'",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := job()
			c.change(j)
			body, err := json.Marshal(j)
			require.NoError(t, err)
			err = Validate("sagemaker", "CreateTrainingJob", body)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, c.want)
		})
	}
}

func TestValidateOtherServices(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, Validate("logs", "CreateLogGroup", []byte(`{"logGroupName":"a b"}`)), "InvalidParameterException: 1 validation error detected: Value 'a b' at 'logGroupName'")
	require.ErrorContains(t, Validate("sagemaker", "NoSuchThing", nil), "UnknownOperationException")
	require.ErrorContains(t, Validate("sagemaker", "StopTrainingJob", []byte(`[]`)), "SerializationException")
	good := url.Values{"RoleArn": {"arn:aws:iam::123456789012:role/r"}, "RoleSessionName": {"job-1"}, "DurationSeconds": {"900"}, "Tags.member.1.Key": {"k"}, "Tags.member.1.Value": {""}}
	require.NoError(t, ValidateQuery("sts", "AssumeRole", good))
	good.Set("DurationSeconds", "60")
	require.EqualError(t, ValidateQuery("sts", "AssumeRole", good), "ValidationError: 1 validation error detected: Value '60' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900")
	good.Del("Tags.member.1.Key")
	require.ErrorContains(t, ValidateQuery("sts", "AssumeRole", good), "Value null at 'tags.1.member.key'")
}

func TestUnknown(t *testing.T) {
	t.Parallel()
	found, err := Unknown("sagemaker", "CreateTrainingJob", []byte(`{"TrainingJobName":"x","Typo":1,"Environment":{"Any":"x"},"InputDataConfig":[{"Chanel":"y"}]}`))
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"Typo", "InputDataConfig[0].Chanel"}, found)
}

func TestEveryPatternCompiles(t *testing.T) {
	t.Parallel()
	a, err := load()
	require.NoError(t, err)
	require.Contains(t, a.Services["sagemaker"].Operations, "CreateTrainingJob")
	n := 0
	for name, s := range a.Services {
		for shapeName, sh := range s.Shapes {
			if sh.Pattern == "" {
				continue
			}
			n++
			_, err := compile(sh.Pattern)
			require.NoError(t, err, "%s %s", name, shapeName)
		}
	}
	require.Greater(t, n, 200)
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pattern, text string
		want          bool
	}{
		"whole text":          {`[a-z]+`, "abc1", false},
		"anchors of its own":  {`^[a-z]+$`, "abc", true},
		"POSIX class":         {`arn:[\p{Alnum}\-]+:x`, "arn:aws-cn:x", true},
		"look-ahead":          {`(?=.{1,5}$)[a-z]+`, "abcdef", false},
		"look-ahead, matched": {`(?=.{1,5}$)[a-z]+`, "abcde", true},
		"look-behind":         {`[a-z-]{0,62}(?<!-)`, "abc-", false},
		"long repetition":     {`.{0,1024}`, strings.Repeat("x", 1024), true},
		"too long":            {`.{0,1024}`, strings.Repeat("x", 1025), false},
		"Unicode":             {`([\p{L}\p{Z}\p{N}_.:/=+\-@]*)`, "größe 1", true},
		"surrogates":          {`[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*`, "a\U0001F600\t", true},
		"repeated end":        {`([\p{L}\p{Z}\p{N}_.:\/=+\-@]*)${1,256}`, "abc", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, matches(c.pattern, c.text))
		})
	}
}
