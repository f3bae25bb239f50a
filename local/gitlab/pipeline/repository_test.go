package pipeline

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab/gitlabtest"
)

func TestRepositoryRef(t *testing.T) {
	t.Parallel()
	dir, sha := gitlabtest.Repository(t, map[string]string{"sub/file": "first"})
	gitlabtest.Git(t, dir, "tag", "v1")
	gitlabtest.Git(t, dir, "checkout", "--quiet", "-b", "feature/x")
	second := gitlabtest.Commit(t, dir, map[string]string{"sub/file": "second"})
	detached := t.TempDir()
	gitlabtest.Git(t, detached, "clone", "--quiet", dir, "clone")
	detached = filepath.Join(detached, "clone")
	gitlabtest.Git(t, detached, "checkout", "--quiet", "--detach")

	type want struct {
		sha, branch, tag string
		protected        bool
	}
	for name, c := range map[string]struct {
		options Options
		want    want
	}{
		"HEAD":              {Options{Dir: dir}, want{second, "feature/x", "", false}},
		"a sub-directory":   {Options{Dir: filepath.Join(dir, "sub")}, want{second, "feature/x", "", false}},
		"another branch":    {Options{Dir: dir, Ref: "main"}, want{sha, "main", "", true}},
		"a tag":             {Options{Dir: dir, Ref: "v1"}, want{sha, "", "v1", false}},
		"a commit":          {Options{Dir: dir, Ref: sha}, want{sha, "detached-" + sha[:8], "", false}},
		"a detached HEAD":   {Options{Dir: detached}, want{second, "detached-" + second[:8], "", false}},
		"a default of mine": {Options{Dir: dir, DefaultBranch: "feature/x"}, want{second, "feature/x", "", true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo, err := openRepository(t.Context(), c.options)
			require.NoError(t, err)
			assert.Equal(t, c.want, want{repo.commit.SHA, repo.commit.Branch, repo.commit.Tag, repo.commit.Protected})
			assert.False(t, repo.dirty)
			mirror := filepath.Join(t.TempDir(), "mirror.git")
			require.NoError(t, repo.mirror(mirror, 7))
			assert.Equal(t, c.want.sha, gitlabtest.Git(t, mirror, "rev-parse", "refs/pipelines/7"))
			if c.want.branch != "" {
				assert.Equal(t, c.want.sha, gitlabtest.Git(t, mirror, "rev-parse", "refs/heads/"+c.want.branch))
			}
			assert.NotEmpty(t, gitlabtest.Git(t, mirror, "cat-file", "commit", c.want.sha))
		})
	}
	assert.Empty(t, gitlabtest.Git(t, dir, "for-each-ref", "refs/pipelines"), "the user's repository is only read")
}

func TestProjectPath(t *testing.T) {
	t.Parallel()
	for origin, want := range map[string]string{
		"https://gitlab.com/group/sub/demo.git":      "group/sub/demo",
		"git@gitlab.com:group/demo.git":              "group/demo",
		"ssh://git@gitlab.com:2222/group/demo.git":   "group/demo",
		"https://user:secret@gitlab.com/group/demo/": "group/demo",
		"/somewhere/else/demo.git":                   "",
		"https://gitlab.com/../../etc":               "",
		"":                                           "",
	} {
		t.Run(origin, func(t *testing.T) {
			t.Parallel()
			dir, _ := gitlabtest.Repository(t, nil)
			if origin != "" {
				gitlabtest.Git(t, dir, "remote", "add", "origin", origin)
			}
			if want == "" {
				want = "local/" + filepath.Base(dir)
			}
			repo, err := openRepository(t.Context(), Options{Dir: dir})
			require.NoError(t, err)
			assert.Equal(t, want, repo.path)
		})
	}
}

func TestSubmodulesWithRelativeAddressesAreServed(t *testing.T) {
	t.Parallel()
	lib, _ := gitlabtest.Repository(t, map[string]string{"file": "of the library\n"})
	dir, _ := gitlabtest.Repository(t, map[string]string{".gitlab-ci.yml": "a:\n  variables: {GIT_SUBMODULE_STRATEGY: recursive}\n  script: cat lib/file\n"})
	gitlabtest.Git(t, dir, "remote", "add", "origin", "https://gitlab.example.com/group/demo.git")
	gitlabtest.Git(t, dir, "submodule", "--quiet", "add", lib, "lib")
	gitlabtest.Git(t, dir, "config", "--file=.gitmodules", "submodule.lib.url", "../lib.git")
	gitlabtest.Commit(t, dir, nil)
	text := newBuffer()
	require.NoError(t, Run(t.Context(), Options{Dir: dir, Executor: hostExecutor(t), Runner: gitlabtest.Runner(t), Out: text}), "%s", text)
	assert.Contains(t, text.String(), "of the library\n")
}
