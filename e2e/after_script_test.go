package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

func TestAfterScript(t *testing.T) {
	t.Parallel()
	for name, j := range map[string]job{
		"sees files and the status": {
			script: lines("echo made > made.txt", "mkdir -p deep/er && echo x > deep/er/x", "cd deep"),
			after:  lines("cat made.txt deep/er/x", `echo "status $CI_JOB_STATUS"`, "pwd"),
		},
		"runs after a failure": {
			script: lines("echo made > made.txt", "exit 42"),
			after:  lines("cat made.txt", `echo "status $CI_JOB_STATUS"`),
		},
		"sees what a process of the script does later": {
			script: lines("(until [ -e go ]; do sleep 0.1; done; echo late > late.txt) >/dev/null 2>&1 &"),
			after:  lines("touch go", "for i in $(seq 300); do [ -s late.txt ] && break; sleep 0.1; done", "cat late.txt"),
		},
		"fails": {
			script: lines("echo fine"),
			after:  lines("echo before", "exit 3", "echo never"),
		},
		"fails after a failure": {
			script: lines("exit 7"),
			after:  lines("exit 3"),
		},
		"makes artifacts": {
			script:    lines("mkdir out && echo script > out/script"),
			after:     lines("echo after > out/after", "echo changed >> out/script"),
			artifacts: []gitlab.Artifact{gitlab.Archive("out/")},
		},
		"shell state of the script is gone": {
			script: lines("export FROM_SCRIPT=1", "alias x=y", "umask 077"),
			after:  lines(`echo "[${FROM_SCRIPT:-unset}]"`, "touch new && stat -c %a new"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, j)
		})
	}
}

func TestAfterScriptIsCutOff(t *testing.T) {
	t.Parallel()
	j := job{
		script:    lines("echo fine", "echo out > out"),
		after:     lines("echo before", "sleep 300", "echo never"),
		variables: []gitlab.Variable{variable("RUNNER_AFTER_SCRIPT_TIMEOUT", "4s")},
		artifacts: []gitlab.Artifact{gitlab.Archive("out")},
	}
	p := shared.bothUnlike(t, j)
	for name, o := range map[string]outcome{"executor": p.ours, "shell executor": p.oracle} {
		assert.Equal(t, gitlab.StateSuccess, o.State, name)
		assert.NotContains(t, output(o.log, "after_script"), "never\n", name)
		assert.Equal(t, []string{"out"}, names(o.archive(t)), name)
	}
}
