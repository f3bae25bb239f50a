package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestStrayArguments(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"x config extra", "x prepare extra", "x cleanup extra",
		"x agent --exchange s3://b/p/ --region r extra", "x local aws --data d extra",
	} {
		var usage usageError
		assert.ErrorAs(t, newApp().Run(strings.Fields(line)), &usage, line)
	}
}

func TestLocalAWSNeedsItsDirectory(t *testing.T) {
	t.Parallel()
	var usage usageError
	err := newApp().Run([]string{"x", "local", "aws"})
	assert.ErrorAs(t, err, &usage)
	assert.EqualError(t, err, "local aws needs --data DIR, the directory of all its state")
}

func TestFlagsFirst(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ args, want string }{
		"before":           {"x local pipeline --artifacts out dir", "x local pipeline --artifacts out dir"},
		"after":            {"x local pipeline dir --artifacts out --play a", "x local pipeline --artifacts out --play a dir"},
		"with =":           {"x local pipeline dir --artifacts=out", "x local pipeline --artifacts=out dir"},
		"on both sides":    {"x local pipeline --ref main dir --play a", "x local pipeline --ref main --play a dir"},
		"a switch":         {"x local aws extra --tls --data d", "x local aws --tls --data d extra"},
		"after --":         {"x local pipeline -- --dir", "x local pipeline -- --dir"},
		"without a value":  {"x local pipeline dir --ref", "x local pipeline dir --ref"},
		"unknown flag":     {"x local pipeline dir --nope", "x local pipeline --nope dir"},
		"unknown command":  {"x locl dir --nope", "x locl dir --nope"},
		"no command":       {"x --version", "x --version"},
		"the runner's own": {"x run script step_script", "x run script step_script"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, strings.Fields(test.want), flagsFirst(commands(), strings.Fields(test.args)))
		})
	}
}
