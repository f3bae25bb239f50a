package failure_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
)

func TestBuild(t *testing.T) {
	t.Parallel()

	tests := map[string]struct {
		err  error
		code int
		text string
	}{
		"invalid": {failure.Invalid("%s is %q", "A", "b"), failure.CodeInvalid, `A is "b"`},
		"policy":  {failure.Policy("no %s", "spot"), failure.CodePolicy, "no spot"},
		"other":   {failure.New(42, "the script failed: %w", fs.ErrNotExist), 42, "the script failed: file does not exist"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ok := failure.AsBuild(fmt.Errorf("wrapped: %w", tt.err))
			require.True(t, ok)
			assert.Equal(t, tt.code, b.Code)
			assert.Equal(t, tt.text, b.Error())
		})
	}

	assert.ErrorIs(t, failure.New(1, "x: %w", fs.ErrNotExist), fs.ErrNotExist)
	_, ok := failure.AsBuild(errors.New("plain"))
	assert.False(t, ok)
}
