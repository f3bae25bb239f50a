package aws

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	awssagemaker "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	smtypes "github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sts"
)

const (
	trainer = "arn:aws:iam::123456789012:role/trainer"
	ci      = "arn:aws:iam::123456789012:role/ci"
)

// rolesFile: the trainer may use its project's prefix of the bucket, ci may
// start jobs with the trainer's role.
const rolesFile = `{
"` + trainer + `": {
  "policy": {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], "Resource": "arn:aws:s3:::bucket/jobs/${aws:PrincipalTag/project}/*"},
    {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/bin/*"},
    {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::bucket", "Condition": {"StringLike": {"s3:prefix": "jobs/${aws:PrincipalTag/project}/*"}}},
    {"Effect": "Allow", "Action": "logs:CreateLogGroup", "Resource": "arn:aws:logs:us-east-1:123456789012:log-group:mine*"}]},
  "trust": {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "sagemaker.amazonaws.com"}},
    {"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"], "Principal": {"AWS": "123456789012"}}]}},
"` + ci + `": {
  "policy": {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": ["sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob"], "Resource": "arn:aws:sagemaker:us-east-1:123456789012:training-job/ci-*",
     "Condition": {"ForAllValues:StringLike": {"sagemaker:InstanceTypes": "ml.m5.*"}}},
    {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "` + trainer + `", "Condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}}]},
  "trust": {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity", "Principal": {"Federated": "arn:aws:iam::123456789012:oidc-provider/gitlab.example"},
     "Condition": {"StringLike": {"gitlab.example:sub": "project_path:group/project:*"}}}]}}
}`

func startWithRoles(t *testing.T) *Server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "roles.json")
	require.NoError(t, os.WriteFile(path, []byte(rolesFile), 0o600))
	s := start(t, func(o *Options) { o.Roles = path })
	_, put := bucket(t, s)
	require.NoError(t, put("bin/agent", "binary"))
	require.NoError(t, put("jobs/7/job.json", "{}"))
	require.NoError(t, put("jobs/8/job.json", "{}"))
	return s
}

func as(s *Server, c *ststypes.Credentials) awssdk.Config {
	conf := config(s)
	conf.RetryMaxAttempts = 1
	conf.Credentials = credentials.NewStaticCredentialsProvider(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
	return conf
}

// assume takes the trainer's role for a project.
func assume(t *testing.T, s *Server, project, policy string) *ststypes.Credentials {
	t.Helper()
	in := &awssts.AssumeRoleInput{
		RoleArn: awssdk.String(trainer), RoleSessionName: awssdk.String("job"),
		Tags: []ststypes.Tag{{Key: awssdk.String("project"), Value: &project}},
	}
	if policy != "" {
		in.Policy = &policy
	}
	out, err := awssts.NewFromConfig(config(s)).AssumeRole(t.Context(), in)
	require.NoError(t, err)
	return out.Credentials
}

func TestRolesInS3(t *testing.T) {
	t.Parallel()
	s := startWithRoles(t)
	name := awssdk.String("bucket")
	get := func(c *awss3.Client, key string) error {
		out, err := c.GetObject(t.Context(), &awss3.GetObjectInput{Bucket: name, Key: &key})
		if err == nil {
			_, err = io.Copy(io.Discard, out.Body)
		}
		return err
	}
	list := func(c *awss3.Client, prefix string) error {
		_, err := c.ListObjectsV2(t.Context(), &awss3.ListObjectsV2Input{Bucket: name, Prefix: &prefix})
		return err
	}
	c := awss3.NewFromConfig(as(s, assume(t, s, "7", "")))
	require.NoError(t, get(c, "jobs/7/job.json"))
	require.NoError(t, get(c, "bin/agent"))
	requireCode(t, get(c, "jobs/8/job.json"), "AccessDenied", http.StatusForbidden)
	requireCode(t, get(c, "jobs/7/missing"), "AccessDenied", http.StatusForbidden) // 403, not 404: it may not list all
	require.NoError(t, list(c, "jobs/7/"))
	requireCode(t, list(c, "jobs/"), "AccessDenied", http.StatusForbidden)
	_, err := c.PutObject(t.Context(), &awss3.PutObjectInput{Bucket: name, Key: awssdk.String("bin/agent"), Body: strings.NewReader("evil")})
	requireCode(t, err, "AccessDenied", http.StatusForbidden)
	_, err = c.CopyObject(t.Context(), &awss3.CopyObjectInput{Bucket: name, Key: awssdk.String("jobs/7/x"), CopySource: awssdk.String("bucket/jobs/8/job.json")})
	requireCode(t, err, "AccessDenied", http.StatusForbidden)
	out, err := c.DeleteObjects(t.Context(), &awss3.DeleteObjectsInput{Bucket: name, Delete: &s3types.Delete{Objects: []s3types.ObjectIdentifier{
		{Key: awssdk.String("jobs/7/job.json")}, {Key: awssdk.String("jobs/8/job.json")},
	}}})
	require.NoError(t, err)
	require.Len(t, out.Deleted, 1)
	require.Len(t, out.Errors, 1)
	require.Equal(t, "AccessDenied", *out.Errors[0].Code)

	narrowed := awss3.NewFromConfig(as(s, assume(t, s, "7", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/jobs/*"}}`)))
	requireCode(t, get(narrowed, "bin/agent"), "AccessDenied", http.StatusForbidden)

	admin := awss3.NewFromConfig(config(s))
	requireCode(t, get(admin, "jobs/7/missing"), "NoSuchKey", http.StatusNotFound)
	stolen := assume(t, s, "7", "")
	stolen.SessionToken = awssdk.String("guessed")
	requireCode(t, get(awss3.NewFromConfig(as(s, stolen)), "bin/agent"), "InvalidToken", http.StatusBadRequest)
	status, _ := local(t, s, http.MethodGet, "/bucket/bin/agent", "")
	require.Equal(t, http.StatusForbidden, status, "nobody signed it")
}

func TestRolesOfContainers(t *testing.T) {
	t.Parallel()
	s := startWithRoles(t)
	issuer := containerCredentials{s.sessions, s.URL}
	address, err := issuer.Issue(trainer, "SageMaker")
	require.NoError(t, err)
	provider := endpointcreds.New(address)
	got, err := provider.Retrieve(t.Context())
	require.NoError(t, err)
	require.True(t, got.CanExpire)
	conf := config(s)
	conf.Credentials, conf.RetryMaxAttempts = provider, 1
	identity, err := awssts.NewFromConfig(conf).GetCallerIdentity(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, "arn:aws:sts::123456789012:assumed-role/trainer/SageMaker", *identity.Arn)
	read := func() error {
		_, err := awss3.NewFromConfig(conf).HeadObject(t.Context(), &awss3.HeadObjectInput{Bucket: awssdk.String("bucket"), Key: awssdk.String("bin/agent")})
		return err
	}
	require.NoError(t, read())
	issuer.Revoke(address)
	_, err = endpointcreds.New(address, func(o *endpointcreds.Options) { o.Retryer = awssdk.NopRetryer{} }).Retrieve(t.Context())
	require.Error(t, err)

	platform := objects{s3: s.objects, allowed: s.platform(trainer)}
	_, err = platform.Open(t.Context(), "bucket", "jobs/8/job.json")
	require.ErrorIs(t, err, fs.ErrPermission)
	opened, err := platform.Open(t.Context(), "bucket", "bin/agent")
	require.NoError(t, err)
	require.NoError(t, opened.Close())
	_, err = objects{s3: s.objects}.Open(t.Context(), "bucket", "missing")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// token is an unsigned JSON Web Token.
func token(claims map[string]any) *string {
	raw, _ := json.Marshal(claims)
	return awssdk.String("e30." + base64.RawURLEncoding.EncodeToString(raw) + ".x")
}

func TestRolesByWebIdentity(t *testing.T) {
	t.Parallel()
	s := startWithRoles(t)
	web := func(iss, sub string) (*awssts.AssumeRoleWithWebIdentityOutput, error) {
		conf := config(s)
		conf.Credentials, conf.RetryMaxAttempts = nil, 1
		return awssts.NewFromConfig(conf).AssumeRoleWithWebIdentity(t.Context(), &awssts.AssumeRoleWithWebIdentityInput{
			RoleArn: awssdk.String(ci), RoleSessionName: awssdk.String("ci-1"), WebIdentityToken: token(map[string]any{"iss": iss, "sub": sub, "aud": "sts"}),
		})
	}
	_, err := web("https://gitlab.example", "project_path:other/project:ref_type:branch:ref:main")
	requireCode(t, err, "AccessDenied", http.StatusForbidden)
	_, err = web("https://other.example", "project_path:group/project:ref_type:branch:ref:main")
	requireCode(t, err, "AccessDenied", http.StatusForbidden)
	out, err := web("https://gitlab.example", "project_path:group/project:ref_type:branch:ref:main")
	require.NoError(t, err)

	reached := recordJobs(t, s)
	c := awssagemaker.NewFromConfig(as(s, out.Credentials))
	create := func(name, role, instance string) error {
		_, err := c.CreateTrainingJob(t.Context(), &awssagemaker.CreateTrainingJobInput{
			TrainingJobName: &name, RoleArn: &role,
			AlgorithmSpecification: &smtypes.AlgorithmSpecification{TrainingInputMode: smtypes.TrainingInputModeFile, TrainingImage: awssdk.String("image:1")},
			OutputDataConfig:       &smtypes.OutputDataConfig{S3OutputPath: awssdk.String("s3://bucket/models")},
			ResourceConfig:         &smtypes.ResourceConfig{InstanceType: smtypes.TrainingInstanceType(instance), InstanceCount: awssdk.Int32(1), VolumeSizeInGB: awssdk.Int32(30)},
			StoppingCondition:      &smtypes.StoppingCondition{MaxRuntimeInSeconds: awssdk.Int32(60)},
		})
		return err
	}
	requireCode(t, create("other", trainer, "ml.m5.large"), "AccessDeniedException", http.StatusBadRequest)
	requireCode(t, create("ci-1", trainer, "ml.p4d.24xlarge"), "AccessDeniedException", http.StatusBadRequest)
	requireCode(t, create("ci-1", "arn:aws:iam::123456789012:role/none", "ml.m5.large"), "ValidationException", http.StatusBadRequest)
	requireCode(t, create("ci-1", ci, "ml.m5.large"), "ValidationException", http.StatusBadRequest)
	requireCode(t, create("ci_1", trainer, "ml.m5.large"), "ValidationException", http.StatusBadRequest)
	require.NoError(t, create("ci-1", trainer, "ml.m5.large"))
	require.Equal(t, []string{"ci-1"}, *reached, "only what is allowed reaches the service")

	_, err = awssts.NewFromConfig(config(s)).AssumeRole(t.Context(), &awssts.AssumeRoleInput{RoleArn: awssdk.String(ci), RoleSessionName: awssdk.String("job")})
	requireCode(t, err, "AccessDenied", http.StatusForbidden)
	_, err = awssts.NewFromConfig(config(s)).AssumeRole(t.Context(), &awssts.AssumeRoleInput{RoleArn: awssdk.String(ci + "2"), RoleSessionName: awssdk.String("job")})
	requireCode(t, err, "AccessDenied", http.StatusForbidden)
}

// recordJobs puts a recorder of CreateTrainingJob in SageMaker's place and returns
// the names that reach it.
func recordJobs(t *testing.T, s *Server) *[]string {
	t.Helper()
	names := &[]string{}
	s.services["sagemaker"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct{ TrainingJobName string }
		assert.NoError(t, json.NewDecoder(r.Body).Decode(&in))
		*names = append(*names, in.TrainingJobName)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_, _ = io.WriteString(w, `{"TrainingJobArn":"arn"}`)
	})
	return names
}

func TestRolesInLogs(t *testing.T) {
	t.Parallel()
	s := startWithRoles(t)
	c := cloudwatchlogs.NewFromConfig(as(s, assume(t, s, "7", "")))
	_, err := c.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: awssdk.String("mine/1")})
	require.NoError(t, err)
	_, err = c.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: awssdk.String("yours")})
	requireCode(t, err, "AccessDeniedException", http.StatusBadRequest)
	require.ErrorContains(t, err, "assumed-role/trainer/job is not authorized to perform: logs:CreateLogGroup on resource: arn:aws:logs:us-east-1:123456789012:log-group:yours")
}

func TestExpiredCredentials(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	old := s.sessions.Issue(sts.Session{RoleARN: trainer, Name: "job"}, -1)
	conf := config(s)
	conf.RetryMaxAttempts, conf.Credentials = 1, credentials.NewStaticCredentialsProvider(old.AccessKey, old.SecretKey, old.Token)
	_, err := awss3.NewFromConfig(conf).ListBuckets(t.Context(), nil)
	requireCode(t, err, "ExpiredToken", http.StatusBadRequest)
	_, err = cloudwatchlogs.NewFromConfig(conf).DescribeLogGroups(t.Context(), nil)
	requireCode(t, err, "ExpiredTokenException", http.StatusBadRequest)
}

func TestBadRoles(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{
		"no JSON":  `[`,
		"policy":   `{"arn": {"policy": {"Statement": {"Effect": "Perhaps"}}, "trust": {}}}`,
		"no trust": `{"arn": {"policy": {"Statement": []}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "roles.json")
			require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
			_, err := Start(t.Context(), Options{Listen: "127.0.0.1:0", Data: t.TempDir(), Roles: path})
			require.ErrorContains(t, err, path)
		})
	}
}
