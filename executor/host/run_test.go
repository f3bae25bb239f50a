package host

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	t.Parallel()
	h := prepared(t, options(t, t.TempDir()))
	tests := map[string]struct {
		script string
		want   string
		code   int
	}{
		"success":          {"echo hello; echo error >&2", "hello\nerror\n", 0},
		"exit code":        {"exit 42", "", 42},
		"failing command":  {"false; echo unreachable", "", 1},
		"killed":           {"kill -KILL $$", "", 137},
		"stdin is empty":   {"cat; echo end", "end\n", 0},
		"gitlab-runner":    {"gitlab-runner artifacts-uploader --name 'a b'", "gitlab-runner called with artifacts-uploader --name a b\n", 0},
		"environment":      {"env -u _ -u SHLVL -u PWD -u OLDPWD env | sort", "HOME=/home/job\nLANG=C.UTF-8\nLOGNAME=job\nPATH=" + pathInside + "\nSHELL=/bin/bash\nTMPDIR=/tmp\nUSER=job\n", 0},
		"user has a name":  {"id -un; test -w ~ && echo home", "job\nhome\n", 0},
		"builds directory": {"cd " + h.o.BuildsDir + " && mkdir p && echo x > p/f && cat p/f && rm -r p", "x\n", 0},
		"temporary files":  {"f=$(mktemp) && echo ok > $f && cat $f", "ok\n", 0},
		"git":              {"cd " + h.o.BuildsDir + " && git init -q r && cd r && git status --short && git config --global a.b c && git config a.b", "c\n", 0},
		"quotes":           {`echo 'it'\''s' "\\n $HOME"`, "it's \\n /home/job\n", 0},
		"stdout by name":   {"echo a > /dev/stdout; echo b | tee /dev/stderr", "a\nb\nb\n", 0},
		"names resolve":    {"getent hosts localhost >/dev/null && cat /etc/resolv.conf | wc -c | grep -qv '^0$' && echo ok", "ok\n", 0},
		"CA certificates":  {"ls /etc/ssl/certs | wc -l | grep -qv '^0$' && echo ok", "ok\n", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, code := run(t, h, generated(tt.script))
			assert.Equal(t, tt.code, code, out)
			assert.Equal(t, tt.want, out)
		})
	}
}

func TestBackgroundProcessesAreGone(t *testing.T) {
	t.Parallel()
	h := prepared(t, options(t, t.TempDir()))
	mark := filepath.Join(h.Builds(), "alive")
	out, code := run(t, h, `
exec 3<> `+h.o.BuildsDir+`/fifo.$$ 2>/dev/null
(trap '' TERM HUP INT; setsid bash -c 'trap "" TERM; while :; do touch `+h.o.BuildsDir+`/alive; sleep 0.01; done' &) >/dev/null 2>&1
while [ ! -e `+h.o.BuildsDir+`/alive ]; do :; done
echo left`)
	assert.Equal(t, "left\n", out)
	assert.Zero(t, code)
	// Who still wrote would make it again.
	require.NoError(t, os.Remove(mark))
	out, _ = run(t, h, "ls -d /proc/[0-9]* | wc -l | grep -qE '^[0-9]$' && ls "+h.o.BuildsDir)
	assert.NotContains(t, out, "alive")
}

func TestStop(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		script string
		grace  time.Duration
		code   int
		want   string
	}{
		"ends on SIGTERM":       {generated("bash -c 'echo ready; exec sleep 1000'"), time.Minute, 1, "ready\n"},
		"has time to clean up":  {`trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done`, time.Minute, 7, "ready\nbye\n"},
		"ignores SIGTERM":       {`trap '' TERM; echo ready; while :; do sleep 0.01; done`, time.Millisecond, 137, "ready\n"},
		"has processes that do": {`(trap "" TERM; sleep 1000) & bash -c 'echo ready; exec sleep 1000'; :`, time.Minute, 143, "ready\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t, t.TempDir())
			o.StopGrace = tt.grace
			h := prepared(t, o)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := &stopper{stop: cancel}
			code, err := h.Run(ctx, scriptFile(t, tt.script), out, io.Discard)
			require.ErrorIs(t, err, ErrStopped)
			require.ErrorIs(t, err, context.Canceled)
			assert.Equal(t, tt.code, code)
			assert.Equal(t, tt.want, out.String())
		})
	}
}

// stopper cancels when the script says that it is ready.
type stopper struct {
	seen bytes.Buffer
	stop func()
}

func (s *stopper) Write(b []byte) (int, error) {
	defer s.stop()
	return s.seen.Write(b)
}

func (s *stopper) String() string { return s.seen.String() }

func TestStoppedBeforeItBegins(t *testing.T) {
	t.Parallel()
	h := prepared(t, options(t, t.TempDir()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.Run(ctx, scriptFile(t, "touch "+h.o.BuildsDir+"/x"), io.Discard, io.Discard)
	require.ErrorIs(t, err, ErrStopped)
	assert.NoFileExists(t, filepath.Join(h.Builds(), "x"))
}

// BenchmarkHostStage measures what the sandbox adds to a script: extra-ms/op
// is the difference to bash without one, in the same run.
func BenchmarkHostStage(b *testing.B) {
	h := prepared(b, options(b, b.TempDir()))
	script := scriptFile(b, generated("true"))
	var direct, boxed time.Duration
	for b.Loop() {
		_, err := script.Seek(0, io.SeekStart)
		require.NoError(b, err)
		start := time.Now()
		cmd := exec.CommandContext(b.Context(), "bash")
		cmd.Stdin = script
		require.NoError(b, cmd.Run())
		direct += time.Since(start)

		_, err = script.Seek(0, io.SeekStart)
		require.NoError(b, err)
		start = time.Now()
		_, err = h.Run(b.Context(), script, io.Discard, io.Discard)
		require.NoError(b, err)
		boxed += time.Since(start)
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / float64(b.N) }
	b.ReportMetric(ms(direct), "direct-ms/op")
	b.ReportMetric(ms(boxed-direct), "extra-ms/op")
	b.ReportMetric(0, "ns/op")
}
