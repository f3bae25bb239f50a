// Package iam evaluates IAM policy documents, as far as a local AWS needs it:
// Allow and Deny, wildcards in actions and resources, conditions on strings,
// ARNs and booleans, policy variables, and the principals of trust policies.
//
// What it does not know is an error when a document is read, so that nothing is
// silently allowed or denied.
package iam

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Policy is a policy document.
type Policy struct {
	statements []statement
}

type statement struct {
	Sid          string
	Effect       string
	Principal    principal
	NotPrincipal json.RawMessage
	Action       oneOrMore
	NotAction    oneOrMore
	Resource     oneOrMore
	NotResource  oneOrMore
	Condition    map[string]map[string]oneOrMore

	conditions []condition
}

// oneOrMore is a string or a list of strings; other scalars become strings.
type oneOrMore []string

func (o *oneOrMore) UnmarshalJSON(b []byte) error {
	var value any
	if err := json.Unmarshal(b, &value); err != nil {
		return err
	}
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	for _, v := range list {
		switch v.(type) {
		case string, bool, float64:
			*o = append(*o, fmt.Sprint(v))
		default:
			return fmt.Errorf("%s is neither a string nor a list of strings", b)
		}
	}
	return nil
}

// principal is whom a trust policy names, by kind ("AWS", "Service",
// "Federated"); "*" stands for {"AWS": "*"}.
type principal map[string]oneOrMore

func (p *principal) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte(`"*"`)) {
		*p = principal{"AWS": {"*"}}
		return nil
	}
	var kinds map[string]oneOrMore
	if err := json.Unmarshal(b, &kinds); err != nil {
		return err
	}
	*p = kinds
	return nil
}

// Parse reads a policy document.
func Parse(document []byte) (Policy, error) {
	var doc struct {
		Version, ID string
		Statement   json.RawMessage
	}
	d := json.NewDecoder(bytes.NewReader(document))
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		return Policy{}, fmt.Errorf("read the policy: %w", err)
	}
	var p Policy
	raw := bytes.TrimSpace(doc.Statement)
	if len(raw) > 0 && raw[0] == '{' {
		raw = append(append([]byte{'['}, raw...), ']')
	}
	if len(raw) == 0 {
		return p, errors.New("the policy has no Statement")
	}
	d = json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&p.statements); err != nil {
		return p, fmt.Errorf("read the policy's statements: %w", err)
	}
	for i := range p.statements {
		if err := p.statements[i].prepare(); err != nil {
			return p, fmt.Errorf("statement %d: %w", i+1, err)
		}
	}
	return p, nil
}

func (s *statement) prepare() error {
	if s.Effect != "Allow" && s.Effect != "Deny" {
		return fmt.Errorf("effect %q is neither Allow nor Deny", s.Effect)
	}
	if len(s.Action) == 0 && len(s.NotAction) == 0 {
		return errors.New("it has neither Action nor NotAction")
	}
	if s.NotPrincipal != nil {
		return errors.New("NotPrincipal is not known here")
	}
	for operator, keys := range s.Condition {
		for key, values := range keys {
			c, err := newCondition(operator, key, values)
			if err != nil {
				return err
			}
			s.conditions = append(s.conditions, c)
		}
	}
	return nil
}

// Context holds the values of condition keys and policy variables, by key in
// lower case. Make one with NewContext.
type Context map[string][]string

// Set sets a key's values; no values remove it.
func (c Context) Set(key string, values ...string) {
	if len(values) == 0 {
		delete(c, strings.ToLower(key))
		return
	}
	c[strings.ToLower(key)] = values
}

func (c Context) get(key string) []string { return c[strings.ToLower(key)] }

// Request is what shall be done.
type Request struct {
	Action   string // "s3:GetObject"
	Resource string // ARN, "*" when the action has none
	Context  Context
	// Principals are whom a trust policy may name, as "AWS:arn…",
	// "Service:sagemaker.amazonaws.com", "Federated:arn…".
	Principals []string
}

// Decision is the outcome of an evaluation.
type Decision int

// Decisions: what nothing allows is denied, and a Deny wins over every Allow.
const (
	Denied Decision = iota
	ExplicitlyDenied
	Allowed
)

// Evaluate judges an action on a resource by identity policies.
func Evaluate(r Request, policies ...Policy) Decision {
	return evaluate(policies, func(s *statement) bool { return s.concerns(r) })
}

// EvaluateTrust judges by a role's trust policy, which names principals in place
// of resources.
func EvaluateTrust(r Request, trust Policy) Decision {
	return evaluate([]Policy{trust}, func(s *statement) bool {
		return s.names(r) && s.acts(r) && s.holds(r.Context)
	})
}

func evaluate(policies []Policy, concerns func(*statement) bool) Decision {
	decision := Denied
	for _, p := range policies {
		for i := range p.statements {
			s := &p.statements[i]
			if !concerns(s) {
				continue
			}
			if s.Effect == "Deny" {
				return ExplicitlyDenied
			}
			decision = Allowed
		}
	}
	return decision
}

func (s *statement) concerns(r Request) bool {
	return s.acts(r) && s.covers(r) && s.holds(r.Context)
}

func (s *statement) acts(r Request) bool {
	is := func(pattern string) bool { return Match(strings.ToLower(pattern), strings.ToLower(r.Action)) }
	if len(s.NotAction) > 0 {
		return !slices.ContainsFunc(s.NotAction, is)
	}
	return slices.ContainsFunc(s.Action, is)
}

func (s *statement) covers(r Request) bool {
	is := func(pattern string) bool {
		p, ok := expand(pattern, r.Context)
		return ok && match(p, []rune(r.Resource))
	}
	if len(s.NotResource) > 0 {
		return !slices.ContainsFunc(s.NotResource, is)
	}
	return slices.ContainsFunc(s.Resource, is)
}

func (s *statement) names(r Request) bool {
	for kind, patterns := range s.Principal {
		for _, pattern := range patterns {
			for _, p := range r.Principals {
				if got, name, _ := strings.Cut(p, ":"); got == kind && principalMatches(pattern, name) {
					return true
				}
			}
		}
	}
	return false
}

// principalMatches compares a principal as trust policies write them: "*", an
// ARN, or an account, which stands for everyone in it.
func principalMatches(pattern, name string) bool {
	if pattern == "*" || pattern == name {
		return true
	}
	account := strings.TrimSuffix(strings.TrimPrefix(pattern, "arn:aws:iam::"), ":root")
	parts := strings.Split(name, ":")
	return len(account) == 12 && !strings.ContainsAny(account, ":/") && len(parts) >= 5 && parts[4] == account
}

func (s *statement) holds(ctx Context) bool {
	return !slices.ContainsFunc(s.conditions, func(c condition) bool { return !c.holds(ctx) })
}
