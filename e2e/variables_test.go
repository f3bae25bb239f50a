package e2e_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

func TestVariables(t *testing.T) {
	t.Parallel()
	// od shows every byte, and masks nothing.
	show := `printf %s "$VALUE" | od -An -c`
	value := func(text string) []gitlab.Variable {
		return []gitlab.Variable{{Key: "VALUE", Value: text, Public: true, Raw: true}}
	}
	big := strings.Repeat("0123456789abcdef\n", 100<<10/17)
	for name, j := range map[string]job{
		"multi-line":         {script: lines(show), variables: value("one\ntwo\n\nfour\n")},
		"quotes and dollars": {script: lines(show), variables: value(`'"$HOME ${X} $(id) \n` + "`id`" + ` !\`)},
		"unicode":            {script: lines(show), variables: value("naïve ünï ✓ 日本")},
		"control characters": {script: lines(show), variables: value("a\tb\rc\x1b[31md\x7f")},
		"empty":              {script: lines(show, `echo "${VALUE-unset}"`), variables: value("")},
		"looks like an option": {
			script:    lines(show),
			variables: value("--help -rf"),
		},
		"100 KiB": {script: lines(`printf %s "$VALUE" | wc -c`, `printf %s "$VALUE" | sha256sum`), variables: value(big)},
		"refers to another": {
			script:    lines(show),
			variables: []gitlab.Variable{variable("OTHER", "other"), variable("VALUE", "<$OTHER> <${OTHER}> <$$> <$NONE>")},
		},
		"file": {
			script:    lines(`od -An -c "$VALUE"`, `stat -c '%a %F' "$VALUE"`, `basename "$VALUE"`),
			after:     lines(`cat "$VALUE"`),
			variables: []gitlab.Variable{{Key: "VALUE", Value: "line one\nline 'two'\nno newline", File: true}},
		},
		"file of 100 KiB": {
			script:    lines(`sha256sum <"$VALUE"`),
			variables: []gitlab.Variable{{Key: "VALUE", Value: big, File: true}},
		},
		"file that the script changes": {
			script:    lines(`echo changed > "$VALUE"`),
			after:     lines(`cat "$VALUE"`),
			variables: []gitlab.Variable{{Key: "VALUE", Value: "original", File: true}},
		},
		"GITLAB_ENV": {
			script: lines(`echo "FROM_SCRIPT=value" >> "$GITLAB_ENV"`, `echo "${FROM_SCRIPT:-not yet}"`),
			after:  lines(`echo "$FROM_SCRIPT"`),
		},
		"where the job runs": {
			script: lines("pwd", `echo "$CI_PROJECT_DIR"`, `[ "$PWD" = "$CI_PROJECT_DIR" ] && echo same`, `echo "$CI_COMMIT_SHA $CI_SERVER $CI_JOB_STATUS"`),
		},
		"names": {
			script: lines(`env -0 | tr '\n' ' ' | tr '\0' '\n' | sed -n 's/^\(\(CI\|GITLAB\)_[A-Z0-9_]*\)=.*/\1/p' | sort`),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := both(t, j)
			assert.Equal(t, gitlab.StateSuccess, p.ours.State)
		})
	}
}

func TestMaskedVariable(t *testing.T) {
	t.Parallel()
	secret := gitlab.Variable{Key: "SECRET", Value: "s3cr3t-value-of-the-job", Masked: true}
	p := both(t, job{
		script: lines(
			`echo "in a line: $SECRET."`,
			// In two writes, far enough apart for two chunks of the log.
			`printf 'in two: %s' "${SECRET:0:9}"; sleep 2.5; printf '%s\n' "${SECRET:9}"`,
			`printf '%s%s' "$SECRET" "$SECRET"`,
		),
		after:     lines(`echo "$SECRET"`),
		variables: []gitlab.Variable{secret},
	})
	assert.Contains(t, output(p.ours.log, "step_script"), "in two: [MASKED]\n")
	assert.NotContains(t, string(p.ours.log), secret.Value)
}
