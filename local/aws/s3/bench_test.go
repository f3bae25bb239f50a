package s3

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"
)

func nowForTests() time.Time { return time.Unix(1_800_000_000, 0) }

// The client, Go's SDK, runs in the same process.

func BenchmarkPut1KiB(b *testing.B) {
	c, _ := serve(b, b.TempDir(), false)
	body := strings.Repeat("x", 1024)
	var n atomic.Int64
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			require.NoError(b, put(b, c, fmt.Sprintf("d/%d", n.Add(1)), strings.NewReader(body)))
		}
	})
}

func BenchmarkGet1KiB(b *testing.B) {
	c, _ := serve(b, b.TempDir(), false)
	require.NoError(b, put(b, c, "k", strings.NewReader(strings.Repeat("x", 1024))))
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			get(b, c, "k")
		}
	})
}

const large = 256 << 20

func BenchmarkPut256MiB(b *testing.B) {
	c, _ := serve(b, b.TempDir(), false)
	body := bytes.Repeat([]byte("0123456789abcdef"), large/16)
	b.SetBytes(large)
	for b.Loop() {
		require.NoError(b, put(b, c, "k", bytes.NewReader(body)))
	}
}

func BenchmarkGet256MiB(b *testing.B) {
	c, _ := serve(b, b.TempDir(), false)
	require.NoError(b, put(b, c, "k", bytes.NewReader(make([]byte, large))))
	b.SetBytes(large)
	for b.Loop() {
		out, err := c.GetObject(b.Context(), &awss3.GetObjectInput{Bucket: awssdk.String(bucketName), Key: awssdk.String("k")})
		require.NoError(b, err)
		_, err = io.Copy(io.Discard, out.Body)
		require.NoError(b, err)
	}
}
