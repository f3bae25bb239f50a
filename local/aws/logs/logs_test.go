package logs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string) *Service {
	t.Helper()
	s, err := New(Options{Dir: dir, Now: func() time.Time { return noon }})
	require.NoError(t, err)
	return s
}

// read reads a whole stream from its head.
func read(t *testing.T, s *Service, group, stream string) []string {
	t.Helper()
	var all []string
	in := &getLogEventsInput{groupRef: groupRef{LogGroupName: group}, LogStreamName: stream, StartFromHead: true}
	for {
		out, err := s.getLogEvents(context.Background(), in)
		require.NoError(t, err)
		for _, e := range out.Events {
			all = append(all, e.Message)
		}
		if out.NextForwardToken == in.NextToken {
			return all
		}
		in.NextToken = out.NextForwardToken
	}
}

func TestPutEventsMakesGroupAndStream(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for n := range 50 {
				require.NoError(t, s.PutEvents("group", fmt.Sprintf("job/%d", i%4), []Event{{noon, fmt.Sprint(i, " ", n)}}))
			}
		})
	}
	writers.Wait()
	for i := range 4 {
		require.Len(t, read(t, s, "group", fmt.Sprintf("job/%d", i)), 100)
	}

	again := open(t, dir)
	require.Equal(t, read(t, s, "group", "job/1"), read(t, again, "group", "job/1"))
	streams, err := again.describeLogStreams(t.Context(), &describeLogStreamsInput{groupRef: groupRef{LogGroupName: "group"}})
	require.NoError(t, err)
	require.Len(t, streams.LogStreams, 4)
	require.Equal(t, noon.UnixMilli(), streams.LogStreams[0].LastEventTimestamp)
}

func TestAnIncompleteRecordIsCutOff(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]int64{"in the second length": 2, "in the message": 7, "in the times": 20, "all but a byte": 1, "in the first length": 28} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := open(t, dir)
			require.NoError(t, s.PutEvents("g", "s", []Event{{noon, "first"}, {noon, "second"}}))
			g, err := s.store.group("g")
			require.NoError(t, err)
			st, err := g.stream("s")
			require.NoError(t, err)
			require.NoError(t, os.Truncate(st.path, st.end-cut))

			s = open(t, dir)
			require.Equal(t, []string{"first"}, read(t, s, "g", "s"))
			require.NoError(t, s.PutEvents("g", "s", []Event{{noon, "third"}}))
			require.Equal(t, []string{"first", "third"}, read(t, s, "g", "s"))
		})
	}
}

func TestAGroupDirectoryWithoutGroupIsIgnored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "half"), 0o700)) // killed between mkdir and group.json
	require.Empty(t, open(t, dir).store.list())
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pattern, message string
		want             bool
	}{
		"empty":            {"", "anything", true},
		"all terms":        {"loss epoch", "epoch 1 loss 2", true},
		"one is missing":   {"loss epoch", "epoch 1", false},
		"phrase":           {`"epoch 1"`, "epoch 1", true},
		"phrase, no match": {`"epoch 1"`, "epoch: 1", false},
		"any":              {"?loss ?acc", "acc 1", true},
		"none of any":      {"?loss ?acc", "x", false},
		"excluded":         {"epoch -debug", "debug epoch", false},
		"phrase excluded":  {`-"a b"`, "a  b", true},
		"case counts":      {"ERROR", "error", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := parsePattern(c.pattern)
			require.NoError(t, err)
			require.Equal(t, c.want, f(c.message))
		})
	}
	for _, bad := range []string{`{ $.x = 1 }`, `[a, b]`, `%re%`, `"open`, `?`} {
		_, err := parsePattern(bad)
		require.ErrorContains(t, err, "InvalidParameterException", strings.TrimSpace(bad))
	}
}
