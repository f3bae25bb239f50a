package remote_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/remote"
)

func TestAJobFromPublishToCollect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("train.txt", "data")
	w.write("out/stale", "of a dependency")
	w.job.Artifacts = []exchange.Pattern{{Paths: []string{"out", "$NAME.txt"}}}
	r := w.published(remote.Options{})
	c := w.start("")

	var log bytes.Buffer
	result, err := r.Run(t.Context(), script(`
cat train.txt; printf '\nno newline at the end'
rm out/stale; echo new > out/fresh; echo 1 > model.txt
echo NAME=model > "`+w.job.TmpDir+`/gitlab_runner_env"
exit 3
`), &log)
	require.NoError(t, err)
	assert.Equal(t, 3, result.ExitCode)
	assert.Equal(t, "data\nno newline at the end", log.String())

	log.Reset()
	result, err = r.Run(t.Context(), remote.Step{Stage: "after_script", Script: bytes.NewReader([]byte("cat out/fresh")), FirstHostOnly: true}, &log)
	require.NoError(t, err)
	assert.Zero(t, result.ExitCode)
	assert.Equal(t, "new\n", log.String())

	require.NoError(t, r.Finish(t.Context()))
	s, err := r.Collect(t.Context(), w.root(w.project), w.root(w.tmp))
	require.NoError(t, err)
	assert.Equal(t, 1, s.Deleted)
	assert.Equal(t, "new\n", w.read("out/fresh"))
	assert.Equal(t, "1\n", w.read("model.txt"))
	assert.NoFileExists(t, w.project+"/out/stale")
	assert.FileExists(t, w.tmp+"/gitlab_runner_env")
	assert.Equal(t, 3, c.exit(), "the SageMaker console tells the truth, too")
}
