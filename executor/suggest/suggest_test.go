package suggest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/suggest"
)

func TestHint(t *testing.T) {
	t.Parallel()

	known := []string{"region", "role_arn", "RoleArn"}
	for name, want := range map[string]string{
		"regoin":    ": did you mean region?",
		"ROLEARN":   ": did you mean RoleArn?",
		"role-arn":  ": did you mean role_arn?",
		"something": "",
		"":          "",
	} {
		assert.Equal(t, want, suggest.Hint(name, known), name)
	}
}
