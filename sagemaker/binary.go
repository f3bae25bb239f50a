package sagemaker

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

// AgentChannel is the name of the input channel that brings the agent into the
// container, and of the file in it.
const AgentChannel = "sagemaker-executor"

// maxArgument is the longest item that SageMaker takes in ContainerEntrypoint
// and ContainerArguments, in characters.
const maxArgument = 256

// startAgent is what /bin/sh in the container runs. S3 drops the execute bit
// and a channel may be read-only or mounted noexec, so the agent is copied to
// the first place where it proves to run.
const startAgent = `n=sagemaker-executor;for d in /tmp /dev/shm /opt/ml;do a=$d/.$n;{ cp /opt/ml/input/data/$n/$n $a&&chmod 755 $a&&$a --version;}>/dev/null 2>&1&&exec $a "$@";done;printf "$n: cannot run in /tmp, /dev/shm, /opt/ml">/opt/ml/output/failure;exit 1`

// BinaryStore is what publishing the agent asks of S3.
type BinaryStore interface {
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
}

// PublishAgent makes sure that the agent's binary lies in S3 under its own
// hash, prefix/bin/<sha256>/sagemaker-executor, and that what lies there is
// that binary. It returns the S3 URI of the folder for AgentInput.
func PublishAgent(ctx context.Context, store BinaryStore, bucket, prefix, file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("open the agent's binary: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return "", fmt.Errorf("read the agent's binary: %w", err)
	}
	sum := h.Sum(nil)
	key := exchange.BinaryKey(prefix, hex.EncodeToString(sum))
	uri := "s3://" + bucket + "/" + path.Dir(key) + "/"

	found, err := verifyAgent(ctx, store, bucket, key, sum)
	switch {
	case err != nil:
		return "", err
	case found:
		return uri, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("read the agent's binary: %w", err)
	}
	// S3 checks the hash, so a torn upload or a file that changed underneath
	// cannot become the agent.
	_, err = store.PutObject(ctx, &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: aws.String(key), Body: f, ContentLength: aws.Int64(size),
		ChecksumAlgorithm: s3types.ChecksumAlgorithmSha256,
		ChecksumSHA256:    aws.String(base64.StdEncoding.EncodeToString(sum)),
	})
	if err != nil {
		return "", fmt.Errorf("upload the agent's binary to s3://%s/%s: %w", bucket, key, err)
	}
	return uri, nil
}

// verifyAgent tells whether the object exists and has the hash; another hash
// is an error, for somebody must have put it there.
func verifyAgent(ctx context.Context, store BinaryStore, bucket, key string, sum []byte) (bool, error) {
	head, err := store.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: aws.String(bucket), Key: aws.String(key), ChecksumMode: s3types.ChecksumModeEnabled,
	})
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the agent's binary at s3://%s/%s: %w", bucket, key, err)
	}
	got, err := base64.StdEncoding.DecodeString(aws.ToString(head.ChecksumSHA256))
	if err != nil || len(got) != sha256.Size { // a copy made by other means may carry another checksum
		if got, err = hashObject(ctx, store, bucket, key); err != nil {
			return false, err
		}
	}
	if string(got) != string(sum) {
		return false, fmt.Errorf("s3://%s/%s is not the agent that was published there: find out who may write to it, then delete it", bucket, key)
	}
	return true, nil
}

func hashObject(ctx context.Context, store BinaryStore, bucket, key string) ([]byte, error) {
	out, err := store.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
	if err != nil {
		return nil, fmt.Errorf("read the agent's binary at s3://%s/%s: %w", bucket, key, err)
	}
	defer out.Body.Close()
	h := sha256.New()
	if _, err := io.Copy(h, out.Body); err != nil {
		return nil, fmt.Errorf("read the agent's binary at s3://%s/%s: %w", bucket, key, err)
	}
	return h.Sum(nil), nil
}

// isMissing tells whether S3 says that there is no such object. Without
// permission to list, S3 answers 403 instead of 404; the upload that follows
// tells the two apart.
func isMissing(err error) bool {
	var re *awshttp.ResponseError
	return errors.As(err, &re) && (re.HTTPStatusCode() == http.StatusNotFound || re.HTTPStatusCode() == http.StatusForbidden)
}

// AgentInput is the channel that brings the published agent into a container.
func AgentInput(uri string) types.Channel {
	return types.Channel{
		ChannelName: aws.String(AgentChannel),
		InputMode:   types.TrainingInputModeFile,
		DataSource: &types.DataSource{S3DataSource: &types.S3DataSource{
			S3DataType:             types.S3DataTypeS3Prefix,
			S3DataDistributionType: types.S3DataDistributionFullyReplicated,
			S3Uri:                  aws.String(uri),
		}},
	}
}

// AgentCommand is how a container starts the agent: its entrypoint and its
// arguments, each item within SageMaker's 256 characters.
func AgentCommand(args ...string) (entrypoint, arguments []string, err error) {
	for _, a := range args {
		if len(a) > maxArgument || a == "" {
			return nil, nil, fmt.Errorf("the agent's argument %q has %d characters and SageMaker takes 1 to %d: shorten prefix in the settings", a, len(a), maxArgument)
		}
	}
	return []string{"/bin/sh", "-c", startAgent, AgentChannel}, args, nil
}
