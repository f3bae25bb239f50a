package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHostileScripts tries to get at what is not the job's.
func TestHostileScripts(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	other := prepared(t, options(t, work))
	require.NoError(t, os.WriteFile(filepath.Join(other.Builds(), "secret"), []byte("other job's"), 0o644))
	require.NoError(t, other.Own())
	h := prepared(t, options(t, work))
	config := filepath.Join(work, "config.toml")
	require.NoError(t, os.WriteFile(config, []byte("token"), 0o644))
	// A process outside to signal and to trace, of the same user if we are an
	// ordinary one, with a secret in its environment.
	victim := exec.CommandContext(t.Context(), "sleep", "1000")
	victim.Env = []string{"AWS_SECRET_ACCESS_KEY=hunter2"}
	require.NoError(t, victim.Start())
	t.Cleanup(func() { _ = victim.Process.Kill(); _ = victim.Wait() })
	pid := strconv.Itoa(victim.Process.Pid)

	tests := map[string]struct{ script, want string }{
		"shadow":                  {"cat /etc/shadow 2>&1", "cat: /etc/shadow: No such file or directory\n"},
		"runner configuration":    {"ls /etc/gitlab-runner " + config + " 2>/dev/null; echo none", "none\n"},
		"other job":               {"find / -name secret -not -path '/proc/*' -not -path '/usr/*' -not -path '/etc/*' 2>/dev/null; ls /tmp/builds | wc -l", "1\n"},
		"other job by path":       {"cat " + filepath.Join(other.Builds(), "secret") + " /tmp/builds/../../" + other.base + "/builds/secret 2>/dev/null; echo none", "none\n"},
		"environment of others":   {"cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep -E 'AWS|hunter2|TMPDIR=/[^t]'; echo none", "none\n"},
		"processes of others":     {"ls -d /proc/[0-9]* | wc -l | grep -qE '^[0-9]$' && echo few", "few\n"},
		"kill all":                {"trap '' TERM; kill -TERM -1 2>/dev/null; kill -9 " + pid + " 2>/dev/null; echo done", "done\n"},
		"memory of process 1":     {"head -c 1 /proc/1/mem >/dev/null 2>&1 || echo refused; cat /proc/1/environ 2>/dev/null; ls /proc/1/root 2>/dev/null; echo end", "refused\nend\n"},
		"write to the system":     {"for d in / /usr /usr/bin /etc /opt/gitlab-runner/bin /home /run; do touch $d/x 2>/dev/null && echo wrote to $d; done; echo none", "none\n"},
		"replace the runner":      {"(echo x > " + runnerInside + ") 2>/dev/null || echo refused", "refused\n"},
		"write to sysctl":         {"(echo x > /proc/sys/kernel/hostname) 2>/dev/null || echo refused", "refused\n"},
		"mount":                   {"mount -t tmpfs x /mnt 2>/dev/null || mount --bind / /tmp 2>/dev/null || echo refused", "refused\n"},
		"more namespaces and out": {"unshare -r sh -c 'umount /etc; umount -l /tmp; cat /etc/shadow; ls " + work + "' 2>/dev/null; echo none", "none\n"},
		"set-uid program":         {"su root -c id 2>/dev/null </dev/null || echo refused", "refused\n"},
		"device":                  {"mknod /tmp/d b 8 0 2>/dev/null || echo refused; ls /dev | grep -E 'sd|vd|nvme|mem|kmsg'; echo none", "refused\nnone\n"},
		// Descriptor 0 is the script, 1 and 2 are pipes.
		"open descriptors":     {"exec </dev/null; for f in /proc/self/fd/*; do readlink $f; done | grep -vE '^(/dev/null|pipe:|/proc/|$)'; echo none", "none\n"},
		"script of the runner": {"(echo x > /proc/$PPID/fd/0) 2>/dev/null; (echo x >> /proc/1/fd/0) 2>/dev/null || echo refused", "refused\n"},
		"kernel keys":          {"cat /proc/keys 2>/dev/null | grep -c . ; echo end", "0\nend\n"},
		"instance of gitlab":   {"ls /var/lib /root /home/gitlab-runner /srv 2>/dev/null; echo none", "none\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, _ := run(t, h, tt.script)
			assert.Equal(t, tt.want, out)
		})
	}
	t.Cleanup(func() { assert.NoError(t, victim.Process.Signal(syscall.Signal(0)), "the process outside is alive") })
}
