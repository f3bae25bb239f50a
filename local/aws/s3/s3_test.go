package s3

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"
)

const bucketName = "bucket"

// serve starts the S3 of dir and returns a client; secure speaks TLS, where the
// SDK sends checksums as trailers.
func serve(t testing.TB, dir string, secure bool) (*awss3.Client, *httptest.Server) {
	t.Helper()
	s, err := New(Options{Dir: dir})
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(s)
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	transport := &http.Transport{MaxIdleConnsPerHost: 64, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	c := awss3.New(awss3.Options{
		Region: "us-east-1", BaseEndpoint: awssdk.String(server.URL), UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("any", "key", ""),
		HTTPClient:  &http.Client{Transport: transport},
	})
	_, err = c.CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: awssdk.String(bucketName)})
	if err != nil {
		requireCode(t, err, "BucketAlreadyOwnedByYou")
	}
	return c, server
}

func requireCode(t testing.TB, err error, code string) {
	t.Helper()
	var api smithy.APIError
	require.ErrorAs(t, err, &api)
	require.Equal(t, code, api.ErrorCode())
}

func put(t testing.TB, c *awss3.Client, key string, body io.Reader, change ...func(*awss3.PutObjectInput)) error {
	t.Helper()
	in := &awss3.PutObjectInput{Bucket: awssdk.String(bucketName), Key: &key, Body: body}
	for _, f := range change {
		f(in)
	}
	_, err := c.PutObject(t.Context(), in)
	return err
}

func get(t testing.TB, c *awss3.Client, key string) []byte {
	t.Helper()
	out, err := c.GetObject(t.Context(), &awss3.GetObjectInput{Bucket: awssdk.String(bucketName), Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	require.NoError(t, err)
	b, err := io.ReadAll(out.Body)
	require.NoError(t, err)
	return b
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// TestSizes puts and gets objects of sizes around buffers' and chunks' edges.
func TestSizes(t *testing.T) {
	t.Parallel()
	for name, secure := range map[string]bool{"http": false, "tls": true} {
		c, _ := serve(t, t.TempDir(), secure)
		for _, size := range []int{0, 1, 511, 512, 64 << 10, 64<<10 + 1, 1 << 20, 5<<20 + 3} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				want := random(size)
				for _, algorithm := range []types.ChecksumAlgorithm{"", types.ChecksumAlgorithmCrc32c, types.ChecksumAlgorithmCrc64nvme, types.ChecksumAlgorithmSha256} {
					key := fmt.Sprintf("k%d%s", size, algorithm)
					require.NoError(t, put(t, c, key, bytes.NewReader(want), func(in *awss3.PutObjectInput) { in.ChecksumAlgorithm = algorithm }))
					require.True(t, bytes.Equal(want, get(t, c, key)), algorithm)
				}
			})
		}
	}
}

// TestChunkedPayloads sends the aws-chunked encoding by hand.
func TestChunkedPayloads(t *testing.T) {
	t.Parallel()
	c, server := serve(t, t.TempDir(), false)
	crc := base64.StdEncoding.EncodeToString([]byte{0x35, 0x10, 0xa5, 0xd2}) // of "0123456789" it is not
	for name, test := range map[string]struct {
		body, encoding, trailer string
		length                  int
		status                  int
	}{
		"two chunks":       {"5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "", 10, 200},
		"signed chunks":    {"a;chunk-signature=00ff\r\n0123456789\r\n0;chunk-signature=00ff\r\n\r\n", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "", 10, 200},
		"good trailer":     {"a\r\n0123456789\r\n0\r\nx-amz-checksum-crc32:poTHxg==\r\n\r\n", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-checksum-crc32", 10, 200},
		"signed trailer":   {"a;chunk-signature=0\r\n0123456789\r\n0;chunk-signature=0\r\nx-amz-checksum-crc32:poTHxg==\r\nx-amz-trailer-signature:00\r\n\r\n", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "x-amz-checksum-crc32", 10, 200},
		"wrong trailer":    {"a\r\n0123456789\r\n0\r\nx-amz-checksum-crc32:" + crc + "\r\n\r\n", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-checksum-crc32", 10, 400},
		"too short":        {"5\r\n01234\r\n0\r\n\r\n", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "", 10, 400},
		"too long":         {"b\r\n0123456789x\r\n0\r\n\r\n", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "", 10, 400},
		"broken off":       {"a\r\n01234", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "", 10, 400},
		"no chunk":         {"zz\r\n", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "", 10, 400},
		"unknown checksum": {"a\r\n0123456789\r\n0\r\n\r\n", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-checksum-md4", 10, 400},
	} {
		t.Run(name, func(t *testing.T) {
			key := strings.ReplaceAll(name, " ", "-")
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL+"/"+bucketName+"/"+key, strings.NewReader(test.body))
			require.NoError(t, err)
			r.Header.Set("X-Amz-Content-Sha256", test.encoding)
			r.Header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(test.length))
			r.Header.Set("Content-Encoding", "aws-chunked")
			if test.trailer != "" {
				r.Header.Set("X-Amz-Trailer", test.trailer)
			}
			resp, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			answer, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, test.status, resp.StatusCode, "%s", answer)
			if test.status == http.StatusOK {
				require.Equal(t, "0123456789", string(get(t, c, key)))
				return
			}
			_, err = c.HeadObject(t.Context(), &awss3.HeadObjectInput{Bucket: awssdk.String(bucketName), Key: &key})
			requireCode(t, err, "NotFound")
		})
	}
}

// TestConditionalWritesHaveOneWinner races puts that create and puts that
// replace.
func TestConditionalWritesHaveOneWinner(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, t.TempDir(), false)
	etag := ""
	for name, condition := range map[string]func(*awss3.PutObjectInput){
		"If-None-Match": func(in *awss3.PutObjectInput) { in.IfNoneMatch = awssdk.String("*") },
		"If-Match":      func(in *awss3.PutObjectInput) { in.IfMatch = &etag },
	} {
		t.Run(name, func(t *testing.T) {
			if name == "If-Match" {
				out, err := c.PutObject(t.Context(), &awss3.PutObjectInput{Bucket: awssdk.String(bucketName), Key: &name, Body: strings.NewReader("first")})
				require.NoError(t, err)
				etag = *out.ETag
			}
			var won atomic.Int32
			var group sync.WaitGroup
			for i := range 24 {
				group.Go(func() {
					if err := put(t, c, name, strings.NewReader(fmt.Sprint(i)), condition); err == nil {
						won.Add(1)
					} else {
						requireCode(t, err, "PreconditionFailed")
					}
				})
			}
			group.Wait()
			require.EqualValues(t, 1, won.Load())
		})
	}
}

// TestOverwritesAreWhole reads an object while it is replaced.
func TestOverwritesAreWhole(t *testing.T) {
	t.Parallel()
	c, _ := serve(t, t.TempDir(), false)
	bodies := [][]byte{bytes.Repeat([]byte("a"), 300_000), bytes.Repeat([]byte("b"), 5)}
	require.NoError(t, put(t, c, "k", bytes.NewReader(bodies[0])))
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range 25 {
				require.NoError(t, put(t, c, "k", bytes.NewReader(bodies[i%2])))
			}
		})
		group.Go(func() {
			for range 25 {
				got := get(t, c, "k")
				require.True(t, bytes.Equal(got, bodies[0]) || bytes.Equal(got, bodies[1]), "%d bytes", len(got))
			}
		})
	}
	group.Wait()
}

// TestRestart goes on with a multipart upload after the server was started
// anew, and finds objects, metadata and configuration.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, server := serve(t, dir, false)
	name := awssdk.String(bucketName)
	require.NoError(t, put(t, c, "plain", strings.NewReader("x"), func(in *awss3.PutObjectInput) { in.Metadata = map[string]string{"a": "b"} }))
	_, err := c.PutBucketLifecycleConfiguration(t.Context(), &awss3.PutBucketLifecycleConfigurationInput{Bucket: name, LifecycleConfiguration: &types.BucketLifecycleConfiguration{
		Rules: []types.LifecycleRule{{Status: types.ExpirationStatusEnabled, ID: awssdk.String("r"), Filter: &types.LifecycleRuleFilter{Prefix: awssdk.String("p/")}, Expiration: &types.LifecycleExpiration{Days: awssdk.Int32(2)}}},
	}})
	require.NoError(t, err)
	key := awssdk.String("multi/part")
	created, err := c.CreateMultipartUpload(t.Context(), &awss3.CreateMultipartUploadInput{Bucket: name, Key: key, ContentType: awssdk.String("x/y")})
	require.NoError(t, err)
	data := random(6 << 20)
	parts := make([]types.CompletedPart, 2)
	part := func(c *awss3.Client, n int32, b []byte) {
		out, err := c.UploadPart(t.Context(), &awss3.UploadPartInput{Bucket: name, Key: key, UploadId: created.UploadId, PartNumber: &n, Body: bytes.NewReader(b)})
		require.NoError(t, err)
		parts[n-1] = types.CompletedPart{ETag: out.ETag, PartNumber: &n, ChecksumCRC32: out.ChecksumCRC32}
	}
	part(c, 1, data[:5<<20])
	server.Close()

	c, _ = serve(t, dir, false)
	listed, err := c.ListParts(t.Context(), &awss3.ListPartsInput{Bucket: name, Key: key, UploadId: created.UploadId})
	require.NoError(t, err)
	require.Len(t, listed.Parts, 1)
	part(c, 2, data[5<<20:])
	_, err = c.CompleteMultipartUpload(t.Context(), &awss3.CompleteMultipartUploadInput{Bucket: name, Key: key, UploadId: created.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, get(t, c, *key)))
	head, err := c.HeadObject(t.Context(), &awss3.HeadObjectInput{Bucket: name, Key: key})
	require.NoError(t, err)
	require.Equal(t, "x/y", *head.ContentType)
	require.Regexp(t, `^"[0-9a-f]{32}-2"$`, *head.ETag)
	head, err = c.HeadObject(t.Context(), &awss3.HeadObjectInput{Bucket: name, Key: awssdk.String("plain")})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "b"}, head.Metadata)
	lifecycle, err := c.GetBucketLifecycleConfiguration(t.Context(), &awss3.GetBucketLifecycleConfigurationInput{Bucket: name})
	require.NoError(t, err)
	require.EqualValues(t, 2, *lifecycle.Rules[0].Expiration.Days)
}

func TestListPages(t *testing.T) {
	t.Parallel()
	st, err := openStore(t.TempDir(), nowForTests)
	require.NoError(t, err)
	require.NoError(t, st.create(bucketName, ""))
	b, err := st.bucket(bucketName)
	require.NoError(t, err)
	for _, k := range []string{"a", "a/", "a/1", "a/2/x", "b", "b//c", "b/d", "c\xf4\x8f\xbf\xbf"} {
		b.keys.Set(entry{key: k})
	}
	for name, test := range map[string]struct {
		prefix, delimiter, marker string
		limit                     int
		keys, prefixes            []string
		next                      string
	}{
		"all":                        {"", "", "", 9, []string{"a", "a/", "a/1", "a/2/x", "b", "b//c", "b/d", "c\xf4\x8f\xbf\xbf"}, nil, ""},
		"first two":                  {"", "", "", 2, []string{"a", "a/"}, nil, "a/"},
		"after":                      {"", "", "a/", 2, []string{"a/1", "a/2/x"}, nil, "a/2/x"},
		"folders":                    {"", "/", "", 9, []string{"a", "b", "c\xf4\x8f\xbf\xbf"}, []string{"a/", "b/"}, ""},
		"a folder is one key":        {"", "/", "", 2, []string{"a"}, []string{"a/"}, "a/"},
		"after a folder":             {"", "/", "a/", 2, []string{"b"}, []string{"b/"}, "b/"},
		"in a folder":                {"a/", "/", "", 9, []string{"a/", "a/1"}, []string{"a/2/"}, ""},
		"empty segment":              {"b/", "/", "", 9, []string{"b/d"}, []string{"b//"}, ""},
		"marker in a folder":         {"", "/", "a/1", 1, nil, []string{"a/"}, "a/"},
		"marker before the prefix":   {"b", "", "a", 1, []string{"b"}, nil, "b"},
		"marker behind the prefix":   {"a", "", "b", 1, nil, nil, ""},
		"exactly the page":           {"b/", "", "", 2, []string{"b//c", "b/d"}, nil, ""},
		"long delimiter":             {"", "//", "", 9, []string{"a", "a/", "a/1", "a/2/x", "b", "b/d", "c\xf4\x8f\xbf\xbf"}, []string{"b//"}, ""},
		"prefix that nothing has":    {"zz", "/", "", 9, nil, nil, ""},
		"prefix longer than a key":   {"a/1/", "", "", 9, nil, nil, ""},
		"prefix that is a whole key": {"a/1", "/", "", 9, []string{"a/1"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := b.listPage(test.prefix, test.delimiter, test.marker, test.limit)
			var keys []string
			for _, e := range p.entries {
				keys = append(keys, e.key)
			}
			require.Equal(t, test.keys, keys)
			require.Equal(t, test.prefixes, p.prefixes)
			require.Equal(t, test.next, p.next)
			require.Equal(t, test.next != "", p.truncated)
		})
	}
}

func TestOperation(t *testing.T) {
	t.Parallel()
	for want, line := range map[string]string{
		"ListBuckets":                     "GET /",
		"CreateBucket":                    "PUT /b",
		"HeadBucket":                      "HEAD /b",
		"ListObjects":                     "GET /b?prefix=x",
		"ListObjectsV2":                   "GET /b/?list-type=2",
		"DeleteObjects":                   "POST /b?delete",
		"GetBucketLifecycleConfiguration": "GET /b?lifecycle",
		"PutPublicAccessBlock":            "PUT /b?publicAccessBlock",
		"PutObject":                       "PUT /b/k/l?x-id=PutObject",
		"GetObject":                       "GET /b/k",
		"HeadObject":                      "HEAD /b/k",
		"DeleteObject":                    "DELETE /b/k",
		"GetObjectTagging":                "GET /b/k?tagging",
		"CreateMultipartUpload":           "POST /b/k?uploads",
		"UploadPart":                      "PUT /b/k?partNumber=1&uploadId=x",
		"CompleteMultipartUpload":         "POST /b/k?uploadId=x",
		"AbortMultipartUpload":            "DELETE /b/k?uploadId=x",
		"ListParts":                       "GET /b/k?uploadId=x",
		"ListMultipartUploads":            "GET /b?uploads",
	} {
		method, target, _ := strings.Cut(line, " ")
		require.Equal(t, want, Operation(httptest.NewRequest(method, target, nil)), line)
	}
	r := httptest.NewRequest(http.MethodPut, "/b/k", nil)
	r.Header.Set("X-Amz-Copy-Source", "b/x")
	require.Equal(t, "CopyObject", Operation(r))
	r = httptest.NewRequest(http.MethodGet, "/k", nil)
	r.Host = "b.localhost:4566"
	require.Equal(t, "GetObject", Operation(r))
}

// What a bucket has is answered as it was put; what it has not is AWS's error,
// and what AWS would refuse is not kept.
func TestBucketDocuments(t *testing.T) {
	t.Parallel()
	_, server := serve(t, t.TempDir(), false)
	ask := func(method, sub, body string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/"+bucketName+"?"+sub, strings.NewReader(body))
		require.NoError(t, err)
		out, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer out.Body.Close()
		answer, err := io.ReadAll(out.Body)
		require.NoError(t, err)
		return out.StatusCode, string(answer)
	}
	for sub, c := range map[string]struct{ none, bad, refused, good string }{
		"lifecycle":  {"<Code>NoSuchLifecycleConfiguration</Code><Message>The lifecycle configuration does not exist</Message>", "<LifecycleConfiguration/>", "MalformedXML", "<LifecycleConfiguration><Rule/></LifecycleConfiguration>"},
		"policy":     {"<Code>NoSuchBucketPolicy</Code><Message>The bucket policy does not exist</Message>", "{}", "MalformedPolicy", `{"Statement":[]}`},
		"versioning": {"<VersioningConfiguration", "<Other/>", "MalformedXML", "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"},
		"tagging":    {"<Code>NoSuchTagSet</Code>", "<Tagging/>", "MalformedXML", "<Tagging><TagSet/></Tagging>"},
		"cors":       {"<Code>NoSuchCORSConfiguration</Code>", "{}", "MalformedXML", "<CORSConfiguration><CORSRule/></CORSConfiguration>"},
	} {
		t.Run(sub, func(t *testing.T) {
			t.Parallel()
			_, answer := ask(http.MethodGet, sub, "")
			require.Contains(t, answer, c.none)
			status, answer := ask(http.MethodPut, sub, c.bad)
			require.Equal(t, http.StatusBadRequest, status)
			require.Contains(t, answer, c.refused)
			_, answer = ask(http.MethodGet, sub, "")
			require.Contains(t, answer, c.none)
			status, _ = ask(http.MethodPut, sub, c.good)
			require.Less(t, status, 300)
			_, answer = ask(http.MethodGet, sub, "")
			require.Equal(t, c.good, answer)
		})
	}
}
