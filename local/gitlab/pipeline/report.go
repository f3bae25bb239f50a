package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// table prints how each job ended.
func (r *run) table() {
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "JOB\tRESULT\tDURATION\tREASON")
	for _, t := range r.schedule.tasks {
		duration := ""
		if !t.result.Started.IsZero() {
			duration = t.result.Finished.Sub(t.result.Started).Round(100 * time.Millisecond).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", t.job.Name, t.state, duration, t.reason())
	}
	_ = w.Flush()
	r.printer.notice("")
	for line := range strings.Lines(text.String()) {
		r.printer.notice("%s", strings.TrimRight(line, " \n"))
	}
	for _, t := range r.schedule.tasks {
		for _, kept := range t.kept {
			r.printer.notice("%s: %s", t.job.Name, kept)
		}
	}
}

// reason says in a few words why a job ended as it did.
func (t *task) reason() string {
	var words []string
	switch t.state {
	case gitlab.StateFailed:
		words = append(words, t.result.FailureReason)
		if t.result.ExitCode != 0 {
			words = append(words, fmt.Sprintf("exit code %d", t.result.ExitCode))
		}
		if !t.failed() {
			words = append(words, "allowed to fail")
		}
	case stateManual:
		words = append(words, "not played")
	case stateSkipped:
		words = append(words, "when: "+t.job.When)
	case stateCreated:
		words = append(words, "never got its turn")
	}
	if t.retries > 0 {
		words = append(words, "retried "+count(t.retries, "time"))
	}
	return strings.Join(words, ", ")
}

// verdict is nil when the pipeline passed.
func (r *run) verdict(ctx context.Context) error {
	names := func(tasks []*task) string {
		var list []string
		for _, t := range tasks {
			list = append(list, t.job.Name)
		}
		return strings.Join(list, ", ")
	}
	err := errors.Join(r.problems...)
	failures, blocked := r.schedule.failures(), r.schedule.blocked()
	switch {
	case ctx.Err() != nil:
		err = errors.Join(err, fmt.Errorf("the pipeline was interrupted: %w", context.Cause(ctx)))
	case len(failures) > 0:
		err = errors.Join(err, fmt.Errorf("%w: %s", ErrFailed, names(failures)))
	case len(r.schedule.canceled()) > 0:
		err = errors.Join(err, fmt.Errorf("%w: cancelled: %s", ErrFailed, names(r.schedule.canceled())))
	case len(blocked) > 0:
		err = errors.Join(err, fmt.Errorf("%w: it waits for the manual job %s (--play runs it)", ErrFailed, names(blocked)))
	case err == nil:
		r.printer.notice("The pipeline passed.")
	}
	return err
}

// count is a number of things: "1 job", "2 jobs".
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
