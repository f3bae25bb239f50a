package e2e_test

import (
	"strconv"
	"strings"
	"testing"
)

// fault asks the local AWS to go wrong, in addition to what was asked before.
func (s *stack) fault(t *testing.T, fault string) {
	t.Helper()
	s.post(t, "/_local/faults", "["+fault+"]")
}

// withCount limits a fault to the first n times.
func withCount(fault string, n int) string {
	return strings.TrimSuffix(strings.TrimSpace(fault), "}") + `, "count": ` + strconv.Itoa(n) + `}`
}
