package gitlab_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

func TestParseDotenv(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		text string
		want []gitlab.Variable
		err  string
	}{
		"empty":                   {"", nil, ""},
		"no final newline":        {"A=1", []gitlab.Variable{{Key: "A", Value: "1"}}, ""},
		"blanks are cut off":      {" A = b c \n", []gitlab.Variable{{Key: "A", Value: "b c"}}, ""},
		"quotes stay":             {"A=\"b\"\n", []gitlab.Variable{{Key: "A", Value: `"b"`}}, ""},
		"equals sign in a value":  {"A=b=c\n", []gitlab.Variable{{Key: "A", Value: "b=c"}}, ""},
		"the last equal key wins": {"A=1\nB=2\nA=3\n", []gitlab.Variable{{Key: "A", Value: "3"}, {Key: "B", Value: "2"}}, ""},
		"empty line":              {"A=1\n\nB=2\n", nil, "line 2 is not KEY=VALUE"},
		"comment":                 {"# A=1\n", nil, "Invalid Format"},
		"odd key":                 {"A-B=1\n", nil, "Invalid Format"},
		"too long":                {"A=" + strings.Repeat("x", 5<<10), nil, "too big"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := gitlab.ParseDotenv(c.text)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}
