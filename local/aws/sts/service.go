// Package sts is the part of AWS STS that jobs and their users need: who am I,
// assume a role, session tokens, and the credentials endpoint of containers.
//
// It believes whoever calls: any role can be assumed unless Options.Trust says
// otherwise, and the token of AssumeRoleWithWebIdentity is read but its
// signature is not verified.
package sts

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const xmlns = "https://sts.amazonaws.com/doc/2011-06-15/"

// Options configure a Service. Sessions is required.
type Options struct {
	Account  string // default 123456789012
	Sessions *Sessions
	// Caller returns the session that a request was signed with.
	Caller func(r *http.Request) (Session, bool)
	// Trust judges whether a role may be assumed; nil allows every role. Its
	// error is the reason of an AccessDenied.
	Trust func(ctx context.Context, a Assume) error
}

// Assume is one request for a role's credentials.
type Assume struct {
	Action     string // "sts:AssumeRole" or "sts:AssumeRoleWithWebIdentity"
	RoleARN    string
	Principal  string // ARN of the caller, or the issuer of the web identity
	Claims     map[string]any
	Tags       map[string]string
	ExternalID string
}

// Service answers the Query protocol.
type Service struct {
	opts Options
}

var _ http.Handler = (*Service)(nil)

// New returns a Service.
func New(opts Options) *Service {
	if opts.Account == "" {
		opts.Account = "123456789012"
	}
	return &Service{opts: opts}
}

// failure is an error of the Query protocol.
type failure struct {
	status        int
	code, message string
}

func (f *failure) Error() string { return f.code + ": " + f.message }

func invalid(name, value, constraint string) error {
	return &failure{http.StatusBadRequest, "ValidationError", "1 validation error detected: Value '" + value + "' at '" + name + "' failed to satisfy constraint: " + constraint}
}

// ServeHTTP answers one call.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil {
		writeError(w, &failure{http.StatusBadRequest, "MalformedQueryString", err.Error()})
		return
	}
	operations := map[string]func(*http.Request) (any, error){
		"GetCallerIdentity":         s.getCallerIdentity,
		"AssumeRole":                s.assumeRole,
		"AssumeRoleWithWebIdentity": s.assumeRoleWithWebIdentity,
		"GetSessionToken":           s.getSessionToken,
	}
	action := r.Form.Get("Action")
	op := operations[action]
	if op == nil {
		writeError(w, &failure{http.StatusBadRequest, "InvalidAction", "The local STS does not have the action " + strconv.Quote(action) + "."})
		return
	}
	result, err := op(r)
	if err != nil {
		writeError(w, err)
		return
	}
	writeResult(w, action, result)
}

type metadata struct {
	RequestID string `xml:"RequestId"`
}

func requestID() string {
	id := random(16)
	return id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
}

func writeResult(w http.ResponseWriter, action string, result any) {
	w.Header().Set("Content-Type", "text/xml")
	e := xml.NewEncoder(w)
	outer := xml.StartElement{Name: xml.Name{Local: action + "Response"}, Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: xmlns}}}
	// A write error means that the client has gone.
	_ = e.EncodeToken(outer)
	_ = e.EncodeElement(result, xml.StartElement{Name: xml.Name{Local: action + "Result"}})
	_ = e.EncodeElement(metadata{requestID()}, xml.StartElement{Name: xml.Name{Local: "ResponseMetadata"}})
	_ = e.EncodeToken(outer.End())
	_ = e.Flush()
}

func writeError(w http.ResponseWriter, err error) {
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{http.StatusInternalServerError, "InternalFailure", err.Error()}
	}
	WriteError(w, f.status, f.code, f.message)
}

// WriteError answers with an error of the Query protocol.
func WriteError(w http.ResponseWriter, status int, code, message string) {
	type detail struct {
		Type, Code, Message string
	}
	type document struct {
		XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
		Error     detail
		RequestID string `xml:"RequestId"`
	}
	kind := "Sender"
	if status >= http.StatusInternalServerError {
		kind = "Receiver"
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(document{Error: detail{kind, code, message}, RequestID: requestID()})
}

func (s *Service) caller(r *http.Request) (Session, bool) {
	if s.opts.Caller == nil {
		return Session{}, false
	}
	return s.opts.Caller(r)
}

// principal is the ARN of whoever signed r.
func (s *Service) principal(r *http.Request) string {
	if c, ok := s.caller(r); ok && c.RoleARN != "" {
		return c.ARN()
	}
	return "arn:aws:iam::" + s.opts.Account + ":user/local"
}

type callerIdentity struct {
	Arn, UserId, Account string
}

func (s *Service) getCallerIdentity(r *http.Request) (any, error) {
	if c, ok := s.caller(r); ok && c.RoleARN != "" {
		return callerIdentity{c.ARN(), roleID(c.RoleARN) + ":" + c.Name, c.Account()}, nil
	}
	return callerIdentity{s.principal(r), "AIDALOCALUSER0000000", s.opts.Account}, nil
}

// roleID is a role's unique id, made from its ARN.
func roleID(arn string) string {
	sum := base64.RawURLEncoding.EncodeToString([]byte(arn))
	sum = strings.ToUpper(strings.NewReplacer("-", "", "_", "").Replace(sum))
	return "AROA" + (sum + strings.Repeat("0", 17))[max(0, len(sum)-17):][:17]
}

type credentialsOutput struct {
	AccessKeyId, SecretAccessKey, SessionToken, Expiration string
}

func credentials(s Session) credentialsOutput {
	return credentialsOutput{s.AccessKey, s.SecretKey, s.Token, s.Expires.Format(time.RFC3339)}
}

type assumedRoleUser struct {
	Arn, AssumedRoleId string
}

type assumeRoleOutput struct {
	Credentials                 credentialsOutput
	AssumedRoleUser             assumedRoleUser
	SubjectFromWebIdentityToken string `xml:",omitempty"`
	Provider                    string `xml:",omitempty"`
	Audience                    string `xml:",omitempty"`
}

// Compiled when they are needed: that takes 3 ms, which each stage of the
// executor would pay, being the same program.
var (
	roleARNs = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^arn:aws[a-zA-Z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}$`)
	})
	sessionNames = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[\w+=,.@-]{2,64}$`) })
)

// session reads the parameters that both ways to assume a role share.
func (s *Service) session(r *http.Request) (Session, time.Duration, error) {
	out := Session{RoleARN: r.Form.Get("RoleArn"), Name: r.Form.Get("RoleSessionName"), Policy: r.Form.Get("Policy")}
	if !roleARNs().MatchString(out.RoleARN) {
		return out, 0, &failure{http.StatusBadRequest, "ValidationError", out.RoleARN + " is invalid"}
	}
	if !sessionNames().MatchString(out.Name) {
		return out, 0, invalid("roleSessionName", out.Name, `Member must satisfy regular expression pattern: [\w+=,.@-]*`)
	}
	if len(out.Policy) > 2048 {
		return out, 0, invalid("policy", out.Policy, "Member must have length less than or equal to 2048")
	}
	if out.Policy != "" && !json.Valid([]byte(out.Policy)) {
		return out, 0, &failure{http.StatusBadRequest, "MalformedPolicyDocument", "This policy contains invalid Json"}
	}
	lifetime, err := duration(r, time.Hour, 12*time.Hour)
	return out, lifetime, err
}

func duration(r *http.Request, usual, most time.Duration) (time.Duration, error) {
	raw := r.Form.Get("DurationSeconds")
	if raw == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(raw)
	if d := time.Duration(n) * time.Second; err == nil && d >= 15*time.Minute && d <= most {
		return d, nil
	}
	return 0, invalid("durationSeconds", raw, "Member must have value between 900 and "+strconv.Itoa(int(most.Seconds())))
}

func (s *Service) trusted(ctx context.Context, a Assume) error {
	if s.opts.Trust == nil {
		return nil
	}
	if err := s.opts.Trust(ctx, a); err != nil {
		return &failure{http.StatusForbidden, "AccessDenied", err.Error()}
	}
	return nil
}

func (s *Service) assumeRole(r *http.Request) (any, error) {
	out, lifetime, err := s.session(r)
	if err != nil {
		return nil, err
	}
	out.Tags = map[string]string{}
	for i := 1; r.Form.Has("Tags.member." + strconv.Itoa(i) + ".Key"); i++ {
		prefix := "Tags.member." + strconv.Itoa(i)
		out.Tags[r.Form.Get(prefix+".Key")] = r.Form.Get(prefix + ".Value")
	}
	for i := 1; r.Form.Has("TransitiveTagKeys.member." + strconv.Itoa(i)); i++ {
		out.TransitiveKeys = append(out.TransitiveKeys, r.Form.Get("TransitiveTagKeys.member."+strconv.Itoa(i)))
	}
	if c, ok := s.caller(r); ok { // role chaining: an hour at most, transitive tags come along
		if c.RoleARN != "" && lifetime > time.Hour {
			return nil, &failure{http.StatusBadRequest, "ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"}
		}
		for _, key := range c.TransitiveKeys {
			out.Tags[key] = c.Tags[key]
			if !slices.Contains(out.TransitiveKeys, key) {
				out.TransitiveKeys = append(out.TransitiveKeys, key)
			}
		}
	}
	if err := s.trusted(r.Context(), Assume{Action: "sts:AssumeRole", RoleARN: out.RoleARN, Principal: s.principal(r), Tags: out.Tags, ExternalID: r.Form.Get("ExternalId")}); err != nil {
		return nil, err
	}
	out = s.opts.Sessions.Issue(out, lifetime)
	return assumeRoleOutput{Credentials: credentials(out), AssumedRoleUser: assumedRoleUser{out.ARN(), roleID(out.RoleARN) + ":" + out.Name}}, nil
}

func (s *Service) assumeRoleWithWebIdentity(r *http.Request) (any, error) {
	out, lifetime, err := s.session(r)
	if err != nil {
		return nil, err
	}
	claims, err := readToken(r.Form.Get("WebIdentityToken"))
	if err != nil {
		return nil, err
	}
	if exp, ok := claims["exp"].(float64); ok && time.Unix(int64(exp), 0).Before(s.opts.Sessions.now()) {
		return nil, &failure{http.StatusBadRequest, "ExpiredTokenException", "Token expired: current date/time must be before the expiration date/time"}
	}
	text := func(name string) string { v, _ := claims[name].(string); return v }
	if err := s.trusted(r.Context(), Assume{Action: "sts:AssumeRoleWithWebIdentity", RoleARN: out.RoleARN, Principal: text("iss"), Claims: claims}); err != nil {
		return nil, err
	}
	out = s.opts.Sessions.Issue(out, lifetime)
	return assumeRoleOutput{
		Credentials:                 credentials(out),
		AssumedRoleUser:             assumedRoleUser{out.ARN(), roleID(out.RoleARN) + ":" + out.Name},
		SubjectFromWebIdentityToken: text("sub"),
		Provider:                    text("iss"),
		Audience:                    text("aud"),
	}, nil
}

// readToken reads the claims of a JSON Web Token without verifying it.
func readToken(token string) (map[string]any, error) {
	bad := &failure{http.StatusBadRequest, "InvalidIdentityToken", "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, bad
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, bad
	}
	claims := map[string]any{}
	if err := json.Unmarshal(raw, &claims); err != nil {
		return nil, bad
	}
	return claims, nil
}

func (s *Service) getSessionToken(r *http.Request) (any, error) {
	lifetime, err := duration(r, 12*time.Hour, 36*time.Hour)
	if err != nil {
		return nil, err
	}
	if c, ok := s.caller(r); ok && c.RoleARN != "" {
		return nil, &failure{http.StatusForbidden, "AccessDenied", "Cannot call GetSessionToken with session credentials"}
	}
	return struct{ Credentials credentialsOutput }{credentials(s.opts.Sessions.Issue(Session{}, lifetime))}, nil
}

// ServeContainer answers a container's credentials provider; token is the last
// part of the address.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
func (s *Service) ServeContainer(w http.ResponseWriter, token string) {
	w.Header().Set("Content-Type", "application/json")
	c, ok := s.opts.Sessions.Container(token)
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(map[string]string{"code": "InvalidToken", "message": "these credentials were revoked or never given out"})
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{
		"RoleArn": c.RoleARN, "AccessKeyId": c.AccessKey, "SecretAccessKey": c.SecretKey,
		"Token": c.Token, "Expiration": c.Expires.Format(time.RFC3339),
	})
}
