package sagemaker

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws"
)

// localS3 is a real S3 server with the bucket "bucket".
func localS3(t *testing.T) *s3.Client {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	server, err := aws.Start(t.Context(), aws.Options{Listen: "127.0.0.1:0", Data: t.TempDir(), Log: log})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Close()) })
	clients, err := NewClients(t.Context(), Options{Region: "us-east-1", EndpointURL: server.URL})
	require.NoError(t, err)
	client := s3.New(clients.S3.Options(), func(o *s3.Options) {
		o.Credentials = credentials.NewStaticCredentialsProvider("key", "secret", "")
	})
	_, err = client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: awssdk.String("bucket")})
	require.NoError(t, err)
	return client
}

func TestPublishAgent(t *testing.T) {
	t.Parallel()
	client := localS3(t)
	file := filepath.Join(t.TempDir(), "agent")
	require.NoError(t, os.WriteFile(file, []byte("agent 1"), 0o755))
	publish := func() (string, error) { return PublishAgent(t.Context(), client, "bucket", "ci", file) }

	uri, err := publish()
	require.NoError(t, err)
	folder := strings.TrimSuffix(strings.TrimPrefix(uri, "s3://bucket/"), "/")
	assert.Regexp(t, `^ci/bin/[0-9a-f]{64}$`, folder)
	object := &s3.GetObjectInput{Bucket: awssdk.String("bucket"), Key: awssdk.String(folder + "/sagemaker-executor")}
	got, err := client.GetObject(t.Context(), object)
	require.NoError(t, err)
	content, err := io.ReadAll(got.Body)
	require.NoError(t, err)
	assert.Equal(t, "agent 1", string(content))

	again, err := publish()
	require.NoError(t, err)
	assert.Equal(t, uri, again)
	same, err := client.GetObject(t.Context(), object)
	require.NoError(t, err)
	assert.Equal(t, got.LastModified, same.LastModified, "it is uploaded once")

	// Somebody replaces the agent in S3.
	_, err = client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: object.Bucket, Key: object.Key, Body: strings.NewReader("evil")})
	require.NoError(t, err)
	_, err = publish()
	assert.ErrorContains(t, err, "is not the agent that was published there")

	require.NoError(t, os.WriteFile(file, []byte("agent 2"), 0o755))
	other, err := publish()
	require.NoError(t, err)
	assert.NotEqual(t, uri, other, "another version has another place")
}

func TestAgentCommandFitsSageMakersLimits(t *testing.T) {
	t.Parallel()
	entrypoint, arguments, err := AgentCommand("agent", "--exchange", "s3://bucket/prefix/")
	require.NoError(t, err)
	for _, item := range append(entrypoint, arguments...) {
		assert.NotEmpty(t, item)
		assert.LessOrEqual(t, len(item), 256)
	}
	_, _, err = AgentCommand("agent", "--exchange", "s3://"+strings.Repeat("x", 252))
	assert.ErrorContains(t, err, "shorten prefix")
}
