package sagemaker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sagemaker/container"
)

const (
	logGroup         = "/aws/sagemaker/TrainingJobs"
	maxFailureReason = 1024 // characters of FailureReason, and of /opt/ml/output/failure that are read
	exitNotFound     = 127  // a shell's and a container engine's code for a missing program
)

// algorithmError is a container that exited with a code other than 0.
type algorithmError struct {
	code int
	text string // of /opt/ml/output/failure
}

// Error is the FailureReason: "AlgorithmError: , exit code: 1" where there is
// no failure file (what AWS answered by 2024).
func (e *algorithmError) Error() string {
	tail := fmt.Sprintf(", exit code: %d", e.code)
	head := "AlgorithmError: " + e.text
	return truncate(head, maxFailureReason-len(tail)) + tail
}

// truncate cuts a text to n characters.
func truncate(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n])
}

type hostExit struct {
	host *host
	exit container.Exit
	err  error
}

// running is a host's container while it runs.
type running struct {
	host    *host
	process container.Process
	log     *logStream
}

// train runs the containers to their end.
func (r *run) train(ctx context.Context, interruptions int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	marker := r.spotMarker(interruptions)
	ended := make(chan hostExit, len(r.hosts))
	var all []*running
	// The order of what follows the containers' end is a promise: outputs and
	// logs are complete before the status moves on.
	finish := func() {
		for _, run := range all {
			run.log.wait()
		}
	}
	begun := time.Now()
	r.ran = true
	var startErr error
	for _, h := range r.hosts {
		one, err := r.start(h, begun, func(line string) {
			if marker != "" && strings.Contains(line, marker) {
				cancel(errInterrupted)
			}
		})
		if one != nil {
			all = append(all, one)
		}
		if err != nil {
			startErr = err
			break
		}
	}
	waiting := 0
	for _, one := range all {
		if one.process == nil {
			continue
		}
		waiting++
		if startErr != nil {
			_ = one.process.Kill()
		}
		go func() {
			exit, err := one.process.Wait()
			one.log.closeWriter()
			ended <- hostExit{one.host, exit, err}
		}()
	}
	stopWatch := r.watch(ctx, cancel, interruptions)
	err := r.await(ctx, all, ended, waiting)
	stopWatch()
	finish()
	if startErr != nil {
		return startErr
	}
	return err
}

// start runs the container of a host. Where the image has no such program the
// log says so and the error is an algorithmError.
func (r *run) start(h *host, begun time.Time, line func(string)) (*running, error) {
	stream := fmt.Sprintf("%s/%s-%d", r.j.Name, h.name, begun.Unix())
	log, err := r.s.newLogStream(stream, func(e LogEvent) {
		r.metrics.observe(e)
		line(e.Message)
	})
	if err != nil {
		return nil, err
	}
	one := &running{host: h, log: log}
	spec, err := r.spec(h, log.writer)
	if err == nil {
		one.process, err = r.s.opts.Runtime.Start(r.s.ctx, spec)
	}
	if err != nil {
		var exec *container.ExecError
		if errors.As(err, &exec) {
			_, _ = fmt.Fprintln(log.writer, err)
			err = &algorithmError{code: exitNotFound, text: err.Error()}
		}
		var image *container.ImageError
		if errors.As(err, &image) {
			err = clientError("%v", image)
		}
		log.closeWriter()
		return one, err
	}
	return one, nil
}

// await waits for every container. The first that fails, or the end of ctx,
// stops the others: SIGTERM, and after the grace period SIGKILL.
func (r *run) await(ctx context.Context, all []*running, ended <-chan hostExit, waiting int) error {
	var result error
	var kill <-chan time.Time
	done := ctx.Done()
	terminate := func() {
		if kill == nil {
			kill = time.After(r.s.opts.StopGrace)
			for _, one := range all {
				if one.process != nil {
					_ = one.process.Signal(syscall.SIGTERM)
				}
			}
		}
	}
	for waiting > 0 {
		select {
		case e := <-ended:
			waiting--
			if result == nil && (e.err != nil || e.exit.Code != 0) {
				result = r.exitError(e)
				terminate()
			}
		case <-done:
			done = nil
			cause := context.Cause(ctx)
			if isStop(cause) {
				r.stopping()
			}
			terminate()
		case <-kill:
			for _, one := range all {
				if one.process != nil {
					_ = one.process.Kill()
				}
			}
		}
	}
	if cause := context.Cause(ctx); cause != nil && done == nil {
		return cause
	}
	return result
}

// exitError turns a container's end into what the job's FailureReason will say.
func (r *run) exitError(e hostExit) error {
	if e.err != nil {
		return fmt.Errorf("container of %s: %w", e.host.name, e.err)
	}
	text, err := readFailure(e.host.ml("output", "failure"))
	if err != nil {
		r.s.log.WithError(err).WithField("job", r.j.Name).Warn("sagemaker: failure file not read")
	}
	return &algorithmError{code: e.exit.Code, text: text}
}

// readFailure reads the start of a failure file. The container wrote it: only a
// regular file is opened.
func readFailure(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, maxFailureReason*utf8.UTFMax)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", err
	}
	return truncate(strings.ToValidUTF8(string(b[:n]), "�"), maxFailureReason), nil
}
