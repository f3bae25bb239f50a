package e2e_test

import (
	"testing"
)

// fault asks the local AWS to go wrong, in addition to what was asked before.
func (s *stack) fault(t *testing.T, fault string) {
	t.Helper()
	s.post(t, "/_local/faults", "["+fault+"]")
}
