package sts

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"strings"
	"sync"
	"time"
)

// Session is what a set of temporary credentials stands for.
type Session struct {
	AccessKey, SecretKey, Token string
	RoleARN                     string // "" for GetSessionToken: the account itself
	Name                        string // RoleSessionName
	Policy                      string // inline session policy, JSON; "" for none
	Tags                        map[string]string
	TransitiveKeys              []string // tags that a session of this session inherits
	Expires                     time.Time
}

// ARN is the ARN of the session as a principal.
func (s Session) ARN() string {
	// arn:aws:iam::123456789012:role/path/name → arn:aws:sts::123456789012:assumed-role/name/session
	prefix, name, ok := strings.Cut(s.RoleARN, ":role/")
	if !ok {
		return s.RoleARN
	}
	name = name[strings.LastIndex(name, "/")+1:]
	return strings.Replace(prefix, ":iam:", ":sts:", 1) + ":assumed-role/" + name + "/" + s.Name
}

// Account is the account in the session's role ARN, "" when there is none.
func (s Session) Account() string {
	if parts := strings.Split(s.RoleARN, ":"); len(parts) >= 5 {
		return parts[4]
	}
	return ""
}

// Sessions are the temporary credentials that were given out. They do not
// outlive the process.
type Sessions struct {
	now func() time.Time

	mu        sync.Mutex
	byKey     map[string]Session
	byAddress map[string]string // container credentials: token in the address to access key
}

// NewSessions returns an empty set; now is time.Now but for tests.
func NewSessions(now func() time.Time) *Sessions {
	return &Sessions{now: now, byKey: map[string]Session{}, byAddress: map[string]string{}}
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// Issue makes credentials for s, whose keys and expiry it fills in.
func (c *Sessions) Issue(s Session, lifetime time.Duration) Session {
	s.AccessKey = "ASIA" + strings.ToUpper(random(8))
	s.SecretKey = random(20)
	s.Token = random(32)
	s.Tags = maps.Clone(s.Tags)
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, old := range c.byKey { // what is long over is forgotten
		if c.now().Sub(old.Expires) > time.Hour {
			delete(c.byKey, key)
		}
	}
	s.Expires = c.now().Add(lifetime).UTC().Truncate(time.Second)
	c.byKey[s.AccessKey] = s
	return s
}

// Lookup returns the session of an access key. A key that was not given out
// here is not found; an expired one is found and says so by its Expires.
func (c *Sessions) Lookup(accessKey string) (Session, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.byKey[accessKey]
	return s, ok
}

// containerLifetime is how long a container's credentials hold; SDKs ask again
// before they end.
const containerLifetime = 6 * time.Hour

// IssueContainer makes credentials for a container. The token is the last part
// of the address that the container reads them from.
func (c *Sessions) IssueContainer(s Session) (token string) {
	s = c.Issue(s, containerLifetime)
	token = random(24)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byAddress[token] = s.AccessKey
	return token
}

// Container returns the credentials behind a container's token, good for
// another containerLifetime.
func (c *Sessions) Container(token string) (Session, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.byKey[c.byAddress[token]]
	if ok {
		s.Expires = c.now().Add(containerLifetime).UTC().Truncate(time.Second)
		c.byKey[s.AccessKey] = s
	}
	return s, ok
}

// RevokeContainer ends a container's credentials.
func (c *Sessions) RevokeContainer(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byKey, c.byAddress[token])
	delete(c.byAddress, token)
}
