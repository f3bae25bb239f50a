package pipeline

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestConcurrent(t *testing.T) {
	t.Parallel()
	negative := Options{Concurrent: -3}
	require.ErrorContains(t, negative.defaults(), "concurrent -3: allowed is 0")
	o := Options{}
	require.NoError(t, o.defaults())
	assert.Positive(t, o.Concurrent)
}
