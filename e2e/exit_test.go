package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for name, script := range map[string][]string{
		"success":                     lines("echo hello", "cat README"),
		"1":                           lines("echo before", "false", "echo never"),
		"3":                           lines("exit 3"),
		"42":                          lines("sh -c 'exit 42'", "echo never"),
		"137":                         lines("exit 137"),
		"255":                         lines("exit 255"),
		"a command that is not there": lines("no-such-command --help 2>&1"),
		"the last of a pipe":          lines("echo one | (cat; exit 5)"),
		"the first of a pipe":         lines("(exit 6) | cat"),
		"an unset variable":           lines("set -u", "exec 2>&1", `echo "$NOT_SET"`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, job{script: script})
		})
	}
}

func TestScriptKilledBySignal(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script string
		code   int
	}{
		"a child is killed":    {script: "sh -c 'kill -KILL $$'", code: 137},
		"the shell is killed":  {script: "kill -KILL $$; sleep 60", code: 137},
		"segmentation fault":   {script: "kill -SEGV $$; sleep 60", code: 139},
		"the shell is aborted": {script: "kill -ABRT $$; sleep 60", code: 134},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := shared.run(t, job{script: lines("echo before", test.script, "echo never")})
			assert.Equal(t, gitlab.StateFailed, got.State)
			assert.Equal(t, "script_failure", got.FailureReason)
			assert.Equal(t, test.code, got.ExitCode)
			assert.Contains(t, output(got.log, "step_script"), "before\n")
			assert.NotContains(t, output(got.log, "step_script"), "never\n")
		})
	}
}
