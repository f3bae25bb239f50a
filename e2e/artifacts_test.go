package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// tree is a script that makes files of every kind.
var tree = lines(
	`mkdir -p out/sub/deep out/empty "out/with space" "out/ünï ✓"`,
	`echo a > out/a.txt; echo b > out/sub/b.txt; echo c > out/sub/deep/c.log; : > out/nothing`,
	`echo space > "out/with space/a file"; echo u > "out/ünï ✓/日本.txt"; echo n > "out/new`+"\n"+`line.txt"`,
	`echo '#!/bin/sh' > out/run.sh; chmod 755 out/run.sh; echo s > out/secret; chmod 600 out/secret; chmod 700 out/sub/deep`,
	`ln -s a.txt out/link; ln -s sub out/dirlink; ln -s /nowhere/at/all out/dangling; ln -s ../README out/up`,
	`ln out/a.txt out/hardlink; head -c 300000 /dev/zero > out/zeros; head -c 70000 /bin/sh > out/binary`,
	`echo "[x]" > "out/[brackets].txt"; echo "-" > out/-dash; echo q > "out/it's \"quoted\""; echo b > 'out/back\slash'`,
)

func TestArtifacts(t *testing.T) {
	t.Parallel()
	archive := func(change func(*gitlab.Artifact), paths ...string) []gitlab.Artifact {
		a := gitlab.Archive(paths...)
		if change != nil {
			change(&a)
		}
		return []gitlab.Artifact{a}
	}
	for name, j := range map[string]job{
		"a directory":           {script: tree, artifacts: archive(nil, "out/")},
		"a directory, no slash": {script: tree, artifacts: archive(nil, "out")},
		"one file":              {script: tree, artifacts: archive(nil, "out/a.txt")},
		"glob":                  {script: tree, artifacts: archive(nil, "out/*.txt")},
		"double star":           {script: tree, artifacts: archive(nil, "**/*.txt", "out/**/c.log")},
		"braces and classes":    {script: tree, artifacts: archive(nil, "out/{a,b}.txt", "out/sub/[a-c].txt", "out/?inks", "out/lin?")},
		"everything":            {script: tree, artifacts: archive(func(a *gitlab.Artifact) { a.Exclude = []string{".git", ".git/**/*"} }, ".")},
		"a link":                {script: tree, artifacts: archive(nil, "out/link", "out/dirlink")},
		"tracked files":         {script: lines("echo changed >> data/kept.txt"), artifacts: archive(nil, "data", "bin", "README", "readlink")},
		"names of other kinds":  {script: tree, artifacts: archive(nil, "out/with space/", "out/ünï ✓/*", "out/new*")},
		"the same twice":        {script: tree, artifacts: archive(nil, "out/", "out/a.txt", "out/sub/../a.txt")},
		"missing":               {script: lines("echo nothing"), artifacts: archive(nil, "out/", "other/*.txt")},
		"missing and there":     {script: tree, artifacts: archive(nil, "missing/", "out/a.txt")},
		"outside the project":   {script: lines("echo x > ../x; echo y > /tmp/y"), artifacts: archive(nil, "../x", "/tmp/y")},
		"absolute":              {script: tree, artifacts: archive(nil, "$CI_PROJECT_DIR/out/sub")},
		"name from a variable":  {script: tree, artifacts: archive(func(a *gitlab.Artifact) { a.Name = "$CI_JOB_STAGE-$CI_COMMIT_REF_NAME" }, "out/a.txt")},
		"excludes":              {script: tree, artifacts: archive(func(a *gitlab.Artifact) { a.Exclude = []string{"out/sub/**/*", "out/*.txt"} }, "out/")},
		"excludes a directory":  {script: tree, artifacts: archive(func(a *gitlab.Artifact) { a.Exclude = []string{"out/sub/"} }, "out/")},
		"untracked":             {script: tree, artifacts: archive(func(a *gitlab.Artifact) { a.Untracked = true })},
		"untracked and ignored": {
			script:    lines("mkdir ignored other; echo i > ignored/i; echo t > x.tmp; echo o > other/o; echo changed > README; rm data/kept.txt; git add other/o 2>/dev/null; git rm -q --cached data/other.txt"),
			artifacts: archive(func(a *gitlab.Artifact) { a.Untracked = true; a.Exclude = []string{"**/*.tmp"} }),
		},
		"variables in globs": {
			script:    tree,
			variables: []gitlab.Variable{variable("DIR", "out/sub"), variable("EXT", "txt"), variable("LIST", "a")},
			artifacts: archive(nil, "$DIR/*.$EXT", "out/${LIST}.txt", "$NOT_SET/x"),
		},
		"variables from GITLAB_ENV": {
			script:    append(lines(`echo "WHERE=out/sub" >> "$GITLAB_ENV"`), tree...),
			artifacts: archive(nil, "$WHERE/b.txt"),
		},
		"on failure, failed": {
			script:    append(tree[:2:2], "exit 3"),
			artifacts: archive(func(a *gitlab.Artifact) { a.When = "on_failure" }, "out/"),
		},
		"on failure, passed": {script: tree, artifacts: archive(func(a *gitlab.Artifact) { a.When = "on_failure" }, "out/")},
		"on success, failed": {script: append(tree[:2:2], "exit 3"), artifacts: archive(nil, "out/")},
		"always, failed": {
			script:    append(tree[:2:2], "exit 3"),
			artifacts: archive(func(a *gitlab.Artifact) { a.When = "always" }, "out/"),
		},
		"reports": {
			script:    lines(`echo "KEY=value" > build.env`, `echo '<testsuites/>' > junit.xml`, "echo x > x"),
			artifacts: []gitlab.Artifact{gitlab.Archive("x"), gitlab.DotenvReport("build.env"), {Name: "junit", Paths: []string{"junit.xml"}, When: "always", Type: "junit", Format: "gzip"}},
		},
		"the project is gone": {
			script:    lines(`rm -rf "$CI_PROJECT_DIR"/* "$CI_PROJECT_DIR"/.[a-z]*`, "mkdir out && echo new > out/new"),
			artifacts: archive(nil, "out/", "README"),
		},
		"in a directory that became a link": {
			script:    lines("rm -rf data; mkdir real && echo r > real/kept.txt; ln -s real data"),
			artifacts: archive(nil, "data/kept.txt", "data", "real"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, j)
		})
	}
}

// What the container deleted or replaced must not come back with the artifacts,
// though the runner's host still has it from a dependency.
func TestDeletedFilesOfADependency(t *testing.T) {
	t.Parallel()
	first := both(t, job{script: tree, artifacts: []gitlab.Artifact{gitlab.Archive("out/")}})
	second := both(t, job{
		script: lines(
			"find out | LC_ALL=C sort", "stat -c '%a %F %n' out/run.sh out/secret out/link out/sub/deep",
			"rm -r out/a.txt out/sub out/link", "mkdir out/link; echo f > out/link/f", "rm -r out/empty; echo file > out/empty", "echo new > out/new",
		),
		artifacts: []gitlab.Artifact{gitlab.Archive("out/")},
		needs:     &first,
	})
	files := names(second.ours.archive(t))
	assert.NotContains(t, files, "out/a.txt")
	assert.NotContains(t, files, "out/sub/b.txt")
	assert.Contains(t, files, "out/link/f")
	assert.Contains(t, files, "out/new")
}

func TestDependencyIsNotUploadedByAJobThatAsksForNothing(t *testing.T) {
	t.Parallel()
	first := both(t, job{script: tree, artifacts: []gitlab.Artifact{gitlab.Archive("out/a.txt")}})
	second := both(t, job{script: lines("cat out/a.txt"), needs: &first})
	assert.Empty(t, second.ours.job.Artifacts())
}
