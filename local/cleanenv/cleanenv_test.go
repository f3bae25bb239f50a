package cleanenv

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestUnset(t *testing.T) {
	gone := []string{"AWS_PROFILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "no_proxy"}
	for _, name := range append(gone, "MY_OWN") {
		t.Setenv(name, "x")
	}
	Unset()
	for _, name := range gone {
		assert.Empty(t, os.Getenv(name), name)
	}
	assert.Equal(t, "x", os.Getenv("MY_OWN"))
	assert.NotEmpty(t, os.Getenv("PATH"))
}
