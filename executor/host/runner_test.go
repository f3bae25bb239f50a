package host

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A job without cache and artifacts does not need the gitlab-runner program; one
// with them is told that it is missing before anything is billed.
func TestRunnerProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := New(Options{}).runner()
	require.ErrorContains(t, err, "[host] runner")
	found, err := New(Options{RunnerUnused: true}).runner()
	require.NoError(t, err)
	assert.Empty(t, found)

	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	program := filepath.Join(dir, runnerName)
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755))
	t.Setenv("PATH", dir)
	found, err = New(Options{}).runner()
	require.NoError(t, err)
	assert.Equal(t, program, found)
}
