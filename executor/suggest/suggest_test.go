package suggest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/suggest"
)

func TestHint(t *testing.T) {
	t.Parallel()

	known := []string{"region", "role_arn", "RoleArn", "policy.roles", "policy.spot", "SAGEMAKER_JOB", "SAGEMAKER_MAX_RUNTIME", "SAGEMAKER_MAX_WAIT", "ml.m5.large"}
	for name, want := range map[string]string{
		"regoin":    ": did you mean region?",
		"ROLEARN":   ": did you mean RoleArn?",
		"role-arn":  ": did you mean role_arn?",
		"something": "",
		"":          "",

		"policy.nope":       "",
		"policy.":           "",
		"policy.rolls":      ": did you mean policy.roles?",
		"polcy.spot":        ": did you mean policy.spot?",
		"SAGEMAKER_HP_":     "",
		"SAGEMAKER_STUDIO":  "",
		"SAGEMAKER_MAX_":    "",
		"SAGEMAKER_MAX_RUN": ": did you mean SAGEMAKER_MAX_RUNTIME?",
		"SAGEMAKER_MAXWAIT": ": did you mean SAGEMAKER_MAX_WAIT?",
		"ml.m5.lrage":       ": did you mean ml.m5.large?",
	} {
		assert.Equal(t, want, suggest.Hint(name, known), name)
	}
}
