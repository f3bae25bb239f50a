package sts

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSessionARN(t *testing.T) {
	t.Parallel()
	for role, want := range map[string]string{
		"arn:aws:iam::123456789012:role/a":          "arn:aws:sts::123456789012:assumed-role/a/s",
		"arn:aws:iam::123456789012:role/path/to/a":  "arn:aws:sts::123456789012:assumed-role/a/s",
		"arn:aws-cn:iam::123456789012:role/a":       "arn:aws-cn:sts::123456789012:assumed-role/a/s",
		"arn:aws-us-gov:iam::123456789012:role/x/y": "arn:aws-us-gov:sts::123456789012:assumed-role/y/s",
	} {
		s := Session{RoleARN: role, Name: "s"}
		require.Equal(t, want, s.ARN())
		require.Equal(t, "123456789012", s.Account())
	}
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	c := NewSessions(func() time.Time { return now })
	old := c.Issue(Session{RoleARN: "arn:aws:iam::123456789012:role/a", Name: "s"}, time.Hour)
	got, ok := c.Lookup(old.AccessKey)
	require.True(t, ok)
	require.Equal(t, now.Add(time.Hour).UTC(), got.Expires)
	now = now.Add(3 * time.Hour)
	_, ok = c.Lookup(old.AccessKey)
	require.True(t, ok, "an expired session says so")
	c.Issue(Session{}, time.Hour)
	_, ok = c.Lookup(old.AccessKey)
	require.False(t, ok, "what is long over is forgotten")
}

func TestContainerCredentials(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	c := NewSessions(func() time.Time { return now })
	s := New(Options{Sessions: c})
	token := c.IssueContainer(Session{RoleARN: "arn:aws:iam::123456789012:role/a", Name: "job"})
	ask := func() (int, map[string]string) {
		w := httptest.NewRecorder()
		s.ServeContainer(w, token)
		var answer map[string]string
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
		return w.Code, answer
	}
	status, first := ask()
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, now.Add(containerLifetime).UTC().Format(time.RFC3339), first["Expiration"])
	now = now.Add(5 * time.Hour)
	_, second := ask()
	require.Equal(t, first["AccessKeyId"], second["AccessKeyId"])
	require.Equal(t, now.Add(containerLifetime).UTC().Format(time.RFC3339), second["Expiration"], "asking renews them")
	c.RevokeContainer(token)
	status, _ = ask()
	require.Equal(t, http.StatusNotFound, status)
	_, ok := c.Lookup(first["AccessKeyId"])
	require.False(t, ok)
}
