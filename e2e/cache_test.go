package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

func TestCache(t *testing.T) {
	t.Parallel()
	cache := gitlab.Cache{Key: "steps-$CI_COMMIT_REF_NAME", Paths: []string{"cached/", "*.lock"}, Policy: "pull-push", When: "on_success"}
	caches := []gitlab.Cache{cache}
	list := `find cached *.lock 2>/dev/null | LC_ALL=C sort | xargs -r -d '\n' stat -c '%a %F %n'`

	both(t, job{
		script: lines("ls cached 2>/dev/null || echo no cache", "mkdir -p cached/empty", "echo 1 > cached/one; echo 2 > cached/two", "chmod 755 cached/one; ln -s one cached/link; echo l > a.lock"),
		caches: caches,
	})
	both(t, job{script: lines(list, "cat cached/one cached/link", "rm cached/two", "echo 3 > cached/three"), caches: caches})
	// What the second job deleted stays deleted.
	third := both(t, job{script: lines(list), caches: caches})
	assert.Contains(t, output(third.ours.log, "step_script"), "cached/three")
	assert.NotContains(t, output(third.ours.log, "step_script"), "cached/two")

	t.Run("is not saved after a failure", func(t *testing.T) {
		both(t, job{script: lines("echo 4 > cached/four", "exit 1"), caches: caches})
		both(t, job{script: lines(list), caches: caches})
	})
	t.Run("is saved after a failure, when asked", func(t *testing.T) {
		always := cache
		always.Key, always.When = "always", "always"
		both(t, job{script: lines("mkdir cached; echo 4 > cached/four", "exit 1"), caches: []gitlab.Cache{always}})
		both(t, job{script: lines(list), caches: []gitlab.Cache{always}})
	})
	t.Run("is not saved with pull", func(t *testing.T) {
		pull := cache
		pull.Policy = "pull"
		both(t, job{script: lines(list, "echo 5 > cached/five"), caches: []gitlab.Cache{pull}})
		both(t, job{script: lines(list), caches: []gitlab.Cache{pull}})
	})
	t.Run("untracked files", func(t *testing.T) {
		untracked := gitlab.Cache{Key: "untracked", Untracked: true, Policy: "pull-push", When: "on_success"}
		both(t, job{script: lines("mkdir ignored; echo i > ignored/i; echo n > new"), caches: []gitlab.Cache{untracked}})
		both(t, job{script: lines("cat ignored/i new"), caches: []gitlab.Cache{untracked}})
	})
}

// Jobs of protected and of open branches share no cache: a merge request could
// otherwise plant files in a protected job.
func TestCacheIsSplitByProtection(t *testing.T) {
	t.Parallel()
	yes := true
	protected := func(p *gitlab.Payload) { p.GitInfo.Protected = &yes }
	caches := []gitlab.Cache{{Key: "split", Paths: []string{"cached/"}, Policy: "pull-push", When: "on_success"}}
	show := "cat cached/who 2>/dev/null || echo nothing cached"
	shared.run(t, job{script: lines("mkdir -p cached; echo open > cached/who"), caches: caches})
	got := shared.run(t, job{script: lines(show, "mkdir -p cached; echo protected > cached/who"), caches: caches, change: protected})
	assert.Contains(t, output(got.log, "step_script"), "nothing cached\n")
	got = shared.run(t, job{script: lines(show), caches: caches})
	assert.Contains(t, output(got.log, "step_script"), "open\n")
}
