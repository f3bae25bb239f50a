package request_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/request"
)

var update = flag.Bool("update", false, "write the table of docs/variables.md")

// TestDocs holds docs/variables.md to the variables.
func TestDocs(t *testing.T) {
	t.Parallel()

	var b strings.Builder
	b.WriteString("\n| variable | |\n|---|---|\n")
	for _, v := range request.Variables() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", v.Name, strings.ReplaceAll(v.Doc, "|", "\\|"))
	}
	b.WriteString("\n")

	const docs = "../../docs/variables.md"
	text, err := os.ReadFile(docs)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(text), "-update -->\n")
	require.True(t, ok)
	got, tail, ok := strings.Cut(rest, "<!-- end of variables -->")
	require.True(t, ok)
	if *update {
		require.NoError(t, os.WriteFile(docs, []byte(head+"-update -->\n"+b.String()+"<!-- end of variables -->"+tail), 0o644))
		return
	}
	assert.Equal(t, b.String(), got, "run go test ./executor/request -update")
}
