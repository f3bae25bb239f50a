package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"time"
)

// writer is the script: it writes lines at a rate, with the time in some of
// them, and at last the checksum of all. Arguments are bytes a second, seconds.
const writer = `
cat > writer.py <<'END'
import hashlib, sys, time
rate, duration = int(sys.argv[1]), float(sys.argv[2])
out, check = sys.stdout.buffer, hashlib.sha256()
def write(b):
    check.update(b)
    out.write(b)
    out.flush()
line = b"." * 127 + b"\n"
tick = max(0.01, 256 / rate)
filler = line * max(0, int(rate * tick) // len(line) - 1)
out.write(b"@begin\n")
start = time.monotonic()
due = start
while due < start + duration:
    time.sleep(max(0, due - time.monotonic()))
    write(b"@%d\n" % time.time_ns() + filler)
    due += tick
print("@end", check.hexdigest(), flush=True)
END
python3 writer.py`

// reading is what was seen of the script's output.
type reading struct {
	latencies []time.Duration
	bytes     int64
	elapsed   time.Duration
	exact     bool
	calls     int // of SageMaker while the script wrote
}

// write runs the script at a rate and reads the job log.
func write(ctx context.Context, s *stack, id, rate int, duration time.Duration) (r reading, err error) {
	j, _, err := s.newJob(ctx, id, nil, nil)
	if err != nil {
		return r, err
	}
	defer func() {
		_, cleanupErr := j.cleanup()
		err = errors.Join(err, cleanupErr)
	}()
	if _, err := j.run(ctx, "get_sources", "mkdir -p "+j.project()+" "+j.project()+".tmp", nil); err != nil {
		return r, err
	}
	pr, pw := io.Pipe()
	result := make(chan error, 1)
	go func() { result <- r.read(pr, s.sageMakerCalls) }()
	script := fmt.Sprintf("cd %s\n%s %d %f", j.project(), writer, rate, duration.Seconds())
	_, err = j.run(ctx, "build_script", script, pw)
	pw.Close()
	return r, errors.Join(err, <-result)
}

// read goes through the log line by line.
func (r *reading) read(log io.Reader, calls func() int) error {
	in := bufio.NewReaderSize(log, 1<<20)
	var check hash.Hash
	var began time.Time
	var before int
	for {
		line, err := in.ReadSlice('\n')
		now := time.Now()
		if errors.Is(err, io.EOF) {
			if check == nil || r.elapsed == 0 {
				return errors.New("the log does not hold the script's output")
			}
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case bytes.Equal(line, []byte("@begin\n")):
			check, began, before = sha256.New(), now, calls()
			continue
		case check == nil, r.elapsed > 0, bytes.Contains(line, []byte("sagemaker: ")):
			continue // not the script's
		case bytes.HasPrefix(line, []byte("@end ")):
			r.elapsed, r.calls = now.Sub(began), calls()-before
			r.exact = hex.EncodeToString(check.Sum(nil)) == string(bytes.TrimSpace(line[5:]))
			continue
		case line[0] == '@':
			if written, err := strconv.ParseInt(string(bytes.TrimSpace(line[1:])), 10, 64); err == nil {
				r.latencies = append(r.latencies, now.Sub(time.Unix(0, written)))
			}
		}
		check.Write(line)
		r.bytes += int64(len(line))
	}
}

func (r *reading) figure(what string) figure {
	exact := "byte-exact"
	if !r.exact {
		exact = "NOT byte-exact"
	}
	return figure{
		what, fmt.Sprintf("p50 %s, p95 %s, %.1f MB/s, %s", seconds(quantile(r.latencies, 0.5)), seconds(quantile(r.latencies, 0.95)),
			float64(r.bytes)/1e6/r.elapsed.Seconds(), exact), "p95 < 1.5 s",
	}
}

// logLines measures how long lines take, from being written to the job log.
func logLines(ctx context.Context, e *environment) (_ []figure, err error) {
	s, err := startStack(ctx, e)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	slow, err := write(ctx, s, 1, 2_000, e.duration/3)
	if err != nil {
		return nil, err
	}
	fast, err := write(ctx, s, 2, 50_000_000, e.duration/3)
	if err != nil {
		return nil, err
	}
	return []figure{slow.figure("a log line, at 2 kB/s"), fast.figure("a log line, at 50 MB/s")}, nil
}

// apiCalls counts while a job runs.
func apiCalls(ctx context.Context, e *environment) (_ []figure, err error) {
	s, err := startStack(ctx, e)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	duration := max(e.duration, time.Minute)
	r, err := write(ctx, s, 1, 100, duration)
	if err != nil {
		return nil, err
	}
	return []figure{
		{"SageMaker calls a minute while a job runs", fmt.Sprintf("%.1f", float64(r.calls)/r.elapsed.Minutes()), "< 4"},
		{"SageMaker calls of a whole job of " + duration.String(), strconv.Itoa(s.sageMakerCalls()), ""},
	}, nil
}
