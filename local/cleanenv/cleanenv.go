// Package cleanenv takes out of a test process's environment what the machine
// has set for its own way to AWS and to the network: credentials, profiles,
// endpoints, CA roots, proxies. Tests talk to servers of their own.
package cleanenv

import (
	"os"
	"strings"
)

// Unset removes the variables. It is for TestMain, before anything is started
// and after whatever needs the machine's network was built.
func Unset() {
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); machines(name) {
			_ = os.Unsetenv(name) // fails for an empty name alone
		}
	}
}

func machines(name string) bool {
	name = strings.ToUpper(name)
	return strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "SSL_CERT_") ||
		strings.HasSuffix(name, "_CA_BUNDLE") || strings.HasSuffix(name, "_PROXY")
}
