package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// hooked is a job whose hook runs on the runner's host, before the sources: the
// user's own text in the runner's script.
func hooked(script ...string) job {
	return job{
		script: lines("echo fine"),
		change: func(p *gitlab.Payload) {
			p.Extra = map[string]any{"hooks": []map[string]any{{"name": "pre_get_sources_script", "script": script}}}
		},
	}
}

// What a user puts into the runner's scripts sees nothing of the runner's host.
func TestHostSandbox(t *testing.T) {
	t.Parallel()
	s := shared
	secret := filepath.Join(s.dir, "secret-of-the-host")
	require.NoError(t, os.WriteFile(secret, []byte("secret-of-the-host-content"), 0o644))
	config := filepath.Join(s.dir, "runner", "config.toml")
	leaks := map[string]string{secret: "secret-of-the-host-content", config: s.gitlab.RunnerToken(), s.settings: "role_arn"}
	for name, content := range leaks { // there is something to be found
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Contains(t, string(b), content)
	}
	const refused = `: (No such file or directory|Permission denied|Read-only file system)\n`
	for name, test := range map[string]struct{ command, want string }{
		"its own files":            {`echo mine > "$TMPDIR/x"; cat "$TMPDIR/x"`, `mine\n`},
		"files of others":          {"cat " + secret, "cat: " + secret + refused},
		"the runner's config":      {"cat " + config, "cat: " + config + refused},
		"the executor's settings":  {"cat " + s.settings, "cat: " + s.settings + refused},
		"other jobs":               {fmt.Sprintf("ls %s %s/jobs", s.work, s.work), "(ls: cannot access '" + s.work + "(/jobs)?'" + refused + "){2}"},
		"credentials":              {`env | grep -i '^AWS_' || echo none`, `none\n`},
		"the runner's environment": {`cat /proc/*/environ 2>/dev/null | tr '\0' '\n' | grep -a -e AWS_SECRET -e JOB_RESPONSE || echo none`, `none\n`},
		"the runner's processes":   {`ls /proc | grep -c '^[0-9]*$'`, `[1-9]\n`},
		"shadow":                   {`cat /etc/shadow`, "cat: /etc/shadow" + refused},
		"the system is read-only":  {`touch /usr/bin/x /etc/x`, "(touch: cannot touch '/(usr/bin|etc)/x'" + refused + "){2}"},
		"the kernel's settings":    {`echo x > /proc/sys/kernel/hostname`, ".*/proc/sys/kernel/hostname" + refused},
		"not the super-user":       {`id -u`, `[1-9][0-9]*\n`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.run(t, hooked("{ "+test.command+"; } 2>&1 || true", "echo the hook has ended"))
			assert.Equal(t, gitlab.StateSuccess, got.State)
			found, _, ended := strings.Cut(commandless(output(got.log, "get_sources")), "the hook has ended\n")
			assert.True(t, ended, "the hook did not run to its end")
			assert.Regexp(t, "^"+test.want+"$", found)
			for _, leak := range leaks {
				assert.NotContains(t, string(got.log), leak)
			}
		})
	}
}

// Variables are the user's to forge.
func TestForgedVariables(t *testing.T) {
	t.Parallel()
	for name, forged := range map[string]gitlab.Variable{
		"job id":          variable("CI_JOB_ID", "1"),
		"project dir":     variable("CI_PROJECT_DIR", "/etc"),
		"builds dir":      variable("CI_BUILDS_DIR", "/"),
		"project id":      variable("CI_PROJECT_ID", "99"),
		"temp project":    variable("RUNNER_TEMP_PROJECT_DIR", "/etc.tmp"),
		"job response":    variable("JOB_RESPONSE_FILE", "/dev/null"),
		"executor's own":  variable("SAGEMAKER_EXECUTOR_SETTINGS", "{}"),
		"path":            variable("PATH_OF_NOTHING", "/"),
		"preload":         variable("LD_PRELOAD", "/nowhere.so"),
		"bash's start-up": variable("BASH_ENV", "/nowhere"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := shared.run(t, job{script: lines("cat README"), variables: []gitlab.Variable{forged}})
			if got.State == gitlab.StateFailed { // refused is fine, obeyed is not
				assert.NotContains(t, string(got.log), "root:x:0")
				return
			}
			assert.Contains(t, output(got.log, "step_script"), "read me\n")
		})
	}
}

// The container's tree is hostile: what leads out of the project stays there.
func TestHostileTree(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(shared.dir, "secret-of-the-host")
	require.NoError(t, os.WriteFile(secret, []byte("secret-of-the-host-content"), 0o644))
	for name, test := range map[string]struct{ script, paths []string }{
		"link to the host's file":      {lines("mkdir out; ln -s " + secret + " out/secret"), lines("out/")},
		"link to a directory outside":  {lines("ln -s " + shared.dir + " out"), lines("out/", "out/secret-of-the-host")},
		"project replaced by a link":   {lines(`cd .. && mv demo away && ln -s /etc demo`), lines("passwd", "hostname")},
		"directory replaced by a link": {lines("rm -r data && ln -s /etc data"), lines("data/passwd", "data/")},
		"device and pipe":              {lines("mkdir out; mkfifo out/pipe; mknod out/null c 1 3 || true; echo fine > out/fine"), lines("out/")},
		"socket":                       {lines(`mkdir out; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("out/socket")'; echo fine > out/fine`), lines("out/")},
		"setuid":                       {lines("mkdir out; cp /bin/true out/true; chmod 4755 out/true"), lines("out/")},
		"a file that no one may read":  {lines("mkdir out; echo x > out/x; chmod 000 out/x"), lines("out/")},
		"a directory without rights":   {lines("mkdir -p out/locked; echo x > out/locked/x; chmod 000 out/locked"), lines("out/")},
		"tmp replaced by a link":       {lines(`rm -rf "$CI_PROJECT_DIR.tmp" && ln -s /etc "$CI_PROJECT_DIR.tmp"; echo fine > fine`), lines("fine")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := shared.run(t, job{script: test.script, artifacts: []gitlab.Artifact{gitlab.Archive(test.paths...)}})
			if stored, ok := got.job.Artifact(gitlab.ArtifactArchive); ok {
				content, err := stored.Bytes()
				require.NoError(t, err)
				for file, e := range entries(t, content) {
					assert.NotContains(t, e.Content, "secret-of-the-host-content", file)
					assert.NotContains(t, e.Content, "root:x:0", file)
				}
			}
			// The next job finds its host as it was.
			_, err := os.Stat(secret)
			assert.NoError(t, err)
		})
	}
}

// A hook makes the project, on the runner's host, a link to what only the
// executor may read there: the executor does not send that to the container.
func TestHostileProjectOnTheHost(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(shared.dir, "directory-of-the-host")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secret"), []byte("secret-of-the-host-content"), 0o600))
	for name, replace := range map[string]string{
		"the project": `mv "$CI_PROJECT_DIR" "$CI_PROJECT_DIR.away"; ln -s ` + dir + ` "$CI_PROJECT_DIR"`,
		"its tmp":     `mv "$CI_PROJECT_DIR.tmp" "$CI_PROJECT_DIR.away"; ln -s ` + dir + ` "$CI_PROJECT_DIR.tmp"`,
		"its group":   `cd /; G=$(dirname "$CI_PROJECT_DIR"); mv "$G" "$G.away"; ln -s ` + dir + ` "$G"`,
		"a file":      `ln -s ` + dir + `/secret "$CI_PROJECT_DIR/secret"; ln -s ` + dir + ` "$CI_PROJECT_DIR/dir"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := shared.run(t, job{
				script: lines(`cat secret dir/secret "$CI_PROJECT_DIR.tmp/secret" || true`),
				change: func(p *gitlab.Payload) {
					p.Extra = map[string]any{"hooks": []map[string]any{{"name": "post_get_sources_script", "script": lines(replace)}}}
				},
			})
			assert.NotContains(t, string(got.log), "secret-of-the-host-content")
			content, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Len(t, content, 1, "nothing is written there, either")
		})
	}
}

// A script that calls for the exchange with its role's credentials harms itself
// at most: it can neither read another job's nor stop the executor.
func TestScriptThatBreaksItsOwnExchange(t *testing.T) {
	t.Parallel()
	got := shared.run(t, job{script: lines(`kill -9 $PPID`, "sleep 60", "echo never")})
	assert.Equal(t, gitlab.StateFailed, got.State)
	assert.NotContains(t, output(got.log, "step_script"), "\nnever\n")
}
