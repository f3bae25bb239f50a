// Command bench measures what the executor costs, and prints a table beside the
// goals of the design: a host stage, a job, a line of the log, memory, and
// calls of SageMaker's API. It uses the compiled binary, the local AWS, and the
// real GitLab Runner. Nothing here passes or fails: figures depend on the
// machine, and on what else it does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// figure is one line of the table.
type figure struct{ what, value, goal string }

// benchmark is one thing to measure.
type benchmark struct {
	name string
	run  func(ctx context.Context, e *environment) ([]figure, error)
}

var benchmarks = []benchmark{
	{"host", hostStage},
	{"job", wholeJob},
	{"log", logLines},
	{"calls", apiCalls},
	{"memory", memory},
}

// environment is what there is to measure, and how long to.
type environment struct {
	executor, runner string
	dir              string
	repeat           int
	duration         time.Duration
	workspace        int64 // bytes
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	var e environment
	flag.StringVar(&e.executor, "executor", "bin/sagemaker-executor", "`BINARY` to measure")
	flag.IntVar(&e.repeat, "repeat", 30, "how often a host stage is run; the median counts")
	flag.DurationVar(&e.duration, "duration", time.Minute, "how long a script writes its log")
	workspace := flag.Int64("workspace", 1024, "`MiB` of the workspace whose way there and back is measured")
	only := flag.String("only", "", "comma-separated `NAMES` of: host, job, log, calls, memory")
	flag.Parse()
	e.workspace = *workspace << 20

	if e.executor, err = filepath.Abs(e.executor); err != nil {
		return err
	}
	if e.runner, err = gitlab.FindRunner("build/gitlab-runner"); err != nil {
		return err
	}
	if e.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(e.dir)) }()
	if err := os.Chmod(e.dir, 0o755); err != nil {
		return err
	}

	var all []figure
	for _, b := range benchmarks {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), b.name) {
			continue
		}
		fmt.Fprintln(os.Stderr, "measuring:", b.name)
		figures, err := b.run(ctx, &e)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		all = append(all, figures...)
	}
	fmt.Printf("%s, %d processors, %s\n\n", runtime.GOOS+"/"+runtime.GOARCH, runtime.NumCPU(), time.Now().Format(time.DateOnly))
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "What\tMeasured\tGoal")
	for _, f := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.what, f.value, f.goal)
	}
	return t.Flush()
}

// quantile of what is sorted here; q is between 0 and 1.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Sorted(slices.Values(d))
	return d[min(len(d)-1, int(q*float64(len(d))))]
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }
