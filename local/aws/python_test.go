package aws

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// python returns an interpreter that has boto3 and the aws CLI. Without one the
// test is skipped, in CI it fails.
func python(t *testing.T) string {
	t.Helper()
	interpreter := os.Getenv("SAGEMAKER_EXECUTOR_PYTHON")
	if interpreter == "" {
		interpreter = "python3"
	}
	out, err := exec.Command(interpreter, "-c", "import boto3, awscli").CombinedOutput()
	if err != nil {
		const hint = "no Python with boto3 and awscli (set SAGEMAKER_EXECUTOR_PYTHON): %v\n%s"
		if os.Getenv("CI") == "true" {
			t.Fatalf(hint, err, out)
		}
		t.Skipf(hint, err, out)
	}
	return interpreter
}

// environment is what AWS's clients need to talk to s and to nothing else.
func environment(t *testing.T, s *Server) []string {
	t.Helper()
	home := t.TempDir()
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home,
		"AWS_ENDPOINT_URL=" + s.URL,
		"AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_ACCESS_KEY_ID=any", "AWS_SECRET_ACCESS_KEY=key",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=2",
	}
	if s.CABundle != "" { // botocore refuses an empty one
		env = append(env, "AWS_CA_BUNDLE="+s.CABundle)
	}
	return env
}

// TestPython runs testdata/*_check.py, which use boto3 and the aws CLI.
func TestPython(t *testing.T) {
	t.Parallel()
	for name, tls := range map[string]bool{"s3": false, "s3 tls": true, "logs": false, "sts": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script, _, _ := strings.Cut(name, " ")
			s := start(t, func(o *Options) { o.TLS = tls })
			cmd := exec.CommandContext(t.Context(), python(t), "-B", "testdata/"+script+"_check.py")
			cmd.Env = environment(t, s)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
		})
	}
}
