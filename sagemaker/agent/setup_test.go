package agent

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// shells makes a directory of shells by the name of their target, an absolute
// path or, with "#!", a script.
func shells(t *testing.T, made map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, target := range made {
		if filepath.IsAbs(target) {
			require.NoError(t, os.Symlink(target, filepath.Join(dir, name)))
			continue
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(target), 0o755))
	}
	return dir
}

func TestFindShell(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	require.NoError(t, err)
	const dash = "#!" + "/bin/sh\nprintf %s '$ok'\n" // dash's answer to $'...'
	for name, c := range map[string]struct {
		shells     map[string]string
		candidates []string
		want, err  string
	}{
		"bash":                     {map[string]string{"bash": bash, "sh": bash}, []string{"bash", "sh"}, "bash", ""},
		"a bash that does not run": {map[string]string{"bash": "#!/none\n", "sh": bash}, []string{"bash", "sh"}, "sh", ""},
		"no bash":                  {map[string]string{"sh": bash}, []string{"bash", "sh"}, "sh", ""},
		"dash alone":               {map[string]string{"sh": dash}, []string{"bash", "sh"}, "", "does not know $'…'"},
		"none":                     {nil, []string{"bash", "sh"}, "", "the image has no shell"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := shells(t, c.shells)
			var candidates []string
			for _, s := range c.candidates {
				candidates = append(candidates, filepath.Join(dir, s))
			}
			got, err := findShell(t.Context(), candidates, os.Environ())
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				var user *userError
				require.ErrorAs(t, err, &user, "the user can mend it")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, filepath.Join(dir, c.want), got)
		})
	}
}

func TestProbeNamesTheUser(t *testing.T) {
	t.Parallel()
	require.NoError(t, probe(filepath.Join(t.TempDir(), "a", "b")))
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	require.Error(t, probe(file))
	err := probe("/proc/none")
	require.Error(t, err)
	if os.Getuid() == 0 {
		return // root may write anywhere
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o555))
	require.ErrorContains(t, probe(dir), fmt.Sprintf("USER (uid %d)", os.Getuid()))
}

func TestProbeSpaceNamesTheVariable(t *testing.T) {
	t.Parallel()
	a := &agent{}
	a.job.ProjectDir = t.TempDir()
	require.NoError(t, a.probeSpace())
	a.job.Workspace.Bytes = 1 << 60
	require.ErrorContains(t, a.probeSpace(), "raise SAGEMAKER_VOLUME_SIZE_GB")
}

func TestParseExchange(t *testing.T) {
	t.Parallel()
	bucket, prefix, err := parseExchange("s3://b/ci/jobs/1-1/")
	require.NoError(t, err)
	assert.Equal(t, [2]string{"b", "ci/jobs/1-1/"}, [2]string{bucket, prefix})
	for _, s := range []string{"", "s3://b", "s3://b/", "https://b/p/", "b/p"} {
		_, _, err := parseExchange(s)
		require.ErrorContains(t, err, "is not s3://BUCKET/PREFIX/", s)
	}
}

// Not parallel: it sets the environment.
func TestProxyIsNotForTheCredentialsEndpoint(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://proxy:3128")
	t.Setenv("HTTP_PROXY", "http://proxy:3128")
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://credentials.internal/role")
	for url, proxied := range map[string]bool{
		"https://s3.amazonaws.com/b": true, "http://169.254.170.2/v2/credentials": false,
		"http://credentials.internal/role": false, "http://127.0.0.1:80/": false,
	} {
		r, err := http.NewRequest(http.MethodGet, url, nil)
		require.NoError(t, err)
		p, err := proxy(r)
		require.NoError(t, err)
		assert.Equal(t, proxied, p != nil, url)
	}
}

func TestCounter(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "memory.events")
	require.NoError(t, os.WriteFile(file, []byte("low 0\noom 3\noom_kill 2\noom_group_kill 1\n"), 0o644))
	assert.EqualValues(t, 2, counter(file, "oom_kill"))
	assert.Zero(t, counter(file, "none"))
	assert.Zero(t, counter(file+".none", "oom_kill"))
}
