package e2e_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// listing shows every file with its mode and where it leads, .git left out.
const listing = `find . -path ./.git -prune -o -printf '%M %p %l\n' | LC_ALL=C sort`

func TestSources(t *testing.T) {
	t.Parallel()
	for name, j := range map[string]job{
		"all files": {script: lines(listing, "cat README bin/tool data/kept.txt 'naïve name/ünï.txt'")},
		"git in the container": {
			script: lines("git status --porcelain --untracked-files=all", "git log -1 --format='%H %s'", "git rev-parse --abbrev-ref HEAD", "git diff --stat", "echo x > x; git add x; git -c user.name=a -c user.email=a@b commit -qm x; git rev-list --count HEAD"),
		},
		"the same as checked out": {script: lines("git ls-files -s | sha256sum", "git diff --stat --exit-code HEAD", "git fsck --no-dangling 2>/dev/null")},
		"empty": {
			script:    lines(listing),
			variables: []gitlab.Variable{variable("GIT_STRATEGY", "empty")},
		},
		"submodules": {
			project:   "group/parent",
			script:    lines("cat library/library.txt", "git submodule status | cut -c2-41"),
			variables: []gitlab.Variable{variable("GIT_SUBMODULE_STRATEGY", "recursive")},
		},
		"submodules that nobody asked for": {project: "group/parent", script: lines("ls -A library", listing)},
		"sparse depth":                     {script: lines("git rev-list --count HEAD"), variables: []gitlab.Variable{variable("GIT_DEPTH", "1")}},
		"a hook of the user's": {
			script: lines("cat from-hook"),
			change: func(p *gitlab.Payload) {
				p.Extra = map[string]any{"hooks": []map[string]any{{"name": "post_get_sources_script", "script": []string{"echo hook > from-hook"}}}}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := both(t, j)
			assert.Equal(t, gitlab.StateSuccess, p.ours.State)
		})
	}
}

// Each job has a project directory of its own: without git there is nothing in it.
func TestNoSources(t *testing.T) {
	t.Parallel()
	got := shared.run(t, job{script: lines(listing, "pwd"), variables: []gitlab.Variable{variable("GIT_STRATEGY", "none")}})
	assert.Equal(t, gitlab.StateSuccess, got.State)
	assert.Regexp(t, `^drwx\S+ \. \n/tmp/builds/\d+/group/demo\n$`, commandless(output(got.log, "step_script")))
}

func TestSourcesAreRetried(t *testing.T) {
	t.Parallel()
	var refused atomic.Int32
	s := startStack(t, stackOptions{middleware: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, ".git/") && refused.Add(1) <= 2 {
				http.Error(w, "come back later", http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(w, r)
		})
	}})
	got := s.run(t, job{
		script:    lines("cat README", "git status --porcelain"),
		variables: []gitlab.Variable{variable("GET_SOURCES_ATTEMPTS", "4")},
	})
	assert.Equal(t, gitlab.StateSuccess, got.State)
	assert.Greater(t, refused.Load(), int32(2))
}

func TestCommitThatIsNotThere(t *testing.T) {
	t.Parallel()
	both(t, job{
		script: lines("echo never"),
		change: func(p *gitlab.Payload) { p.GitInfo.SHA = strings.Repeat("5", 40) },
	})
}
