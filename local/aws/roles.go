package aws

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/iam"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/rpc"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/s3"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sts"
)

// roles are the IAM roles of the account, by ARN. The file is a JSON object:
//
//	{"arn:aws:iam::123456789012:role/trainer": {
//	    "policy": {"Version": "2012-10-17", "Statement": [...]},
//	    "trust":  {"Version": "2012-10-17", "Statement": [...]}}}
//
// Credentials of a role may do what its policy allows, and its session policy
// if there is one. A role that is not listed cannot be assumed. Access keys that
// STS did not give out are the account's administrator, who may do everything;
// unsigned requests may do nothing.
type roles map[string]*role

type role struct {
	policy, trust iam.Policy
}

// loadRoles reads a file of roles; without a path roles are off, which is nil.
func loadRoles(path string) (roles, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the roles: %w", err)
	}
	var file map[string]struct{ Policy, Trust json.RawMessage }
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("%s: roles are a JSON object by ARN: %w", path, err)
	}
	all := roles{}
	for arn, documents := range file {
		r := &role{}
		if r.policy, err = iam.Parse(documents.Policy); err != nil {
			return nil, fmt.Errorf("%s: %s: policy: %w", path, arn, err)
		}
		if r.trust, err = iam.Parse(documents.Trust); err != nil {
			return nil, fmt.Errorf("%s: %s: trust: %w", path, arn, err)
		}
		all[arn] = r
	}
	return all, nil
}

// trust judges whether a role may be assumed.
func (r roles) trust(_ context.Context, a sts.Assume) error {
	denied := func(action string) error {
		return fmt.Errorf("User: %s is not authorized to perform: %s on resource: %s", a.Principal, action, a.RoleARN) //nolint:staticcheck // AWS's sentence
	}
	wanted := r[a.RoleARN]
	if wanted == nil {
		return denied(a.Action)
	}
	ctx := iam.Context{}
	request := iam.Request{Action: a.Action, Resource: a.RoleARN, Context: ctx, Principals: []string{"AWS:" + a.Principal}}
	if a.ExternalID != "" {
		ctx.Set("sts:ExternalId", a.ExternalID)
	}
	for key, value := range a.Tags {
		ctx.Set("aws:RequestTag/"+key, value)
		ctx.Set("aws:TagKeys", append(ctx["aws:tagkeys"], key)...)
	}
	if a.Claims != nil {
		provider := strings.TrimPrefix(a.Principal, "https://")
		account := strings.Split(a.RoleARN, ":")[4]
		request.Principals = []string{"Federated:arn:aws:iam::" + account + ":oidc-provider/" + provider}
		for name, value := range a.Claims {
			switch v := value.(type) {
			case string:
				ctx.Set(provider+":"+name, v)
			case bool, float64:
				ctx.Set(provider+":"+name, fmt.Sprint(v))
			}
		}
	}
	if iam.EvaluateTrust(request, wanted.trust) != iam.Allowed {
		return denied(a.Action)
	}
	if len(a.Tags) > 0 {
		request.Action = "sts:TagSession"
		if iam.EvaluateTrust(request, wanted.trust) != iam.Allowed {
			return denied(request.Action)
		}
	}
	return nil
}

// trusts says whether a service may assume a role.
func (r roles) trusts(roleARN, service string) bool {
	wanted := r[roleARN]
	return wanted != nil && iam.EvaluateTrust(iam.Request{
		Action: "sts:AssumeRole", Resource: roleARN, Context: iam.Context{}, Principals: []string{"Service:" + service},
	}, wanted.trust) == iam.Allowed
}

// allowed judges an action of a session; its error is AWS's sentence.
func (r roles) allowed(who sts.Session, action, resource string, ctx iam.Context) error {
	if ctx == nil {
		ctx = iam.Context{}
	}
	ctx.Set("aws:PrincipalArn", who.RoleARN)
	ctx.Set("aws:PrincipalAccount", who.Account())
	ctx.Set("aws:userid", who.Name)
	for key, value := range who.Tags {
		ctx.Set("aws:PrincipalTag/"+key, value)
	}
	sentence := func(why string) error {
		return fmt.Errorf("User: %s is not authorized to perform: %s on resource: %s %s", who.ARN(), action, resource, why) //nolint:staticcheck // AWS's sentence
	}
	known := r[who.RoleARN]
	if known == nil {
		return sentence("because the role does not exist")
	}
	request := iam.Request{Action: action, Resource: resource, Context: ctx}
	judge := func(p iam.Policy, kind string) error {
		switch iam.Evaluate(request, p) {
		case iam.Allowed:
			return nil
		case iam.ExplicitlyDenied:
			return sentence("with an explicit deny in " + kind)
		}
		return sentence("because no " + kind + " allows the " + action + " action")
	}
	if err := judge(known.policy, "identity-based policy"); err != nil {
		return err
	}
	if who.Policy == "" {
		return nil
	}
	p, err := iam.Parse([]byte(who.Policy))
	if err != nil {
		return sentence("because its session policy cannot be read: " + err.Error())
	}
	return judge(p, "session policy")
}

// caller finds out who signed a request. Signatures are not verified; the token
// of temporary credentials is, and their expiry.
func (s *Server) caller(c *call, r *http.Request) (who sts.Session, admin bool, err error) {
	key := credentialOf(r).accessKey
	who, ok := s.sessions.Lookup(key)
	if !ok {
		return who, key != "", nil
	}
	token := r.Header.Get("X-Amz-Security-Token")
	if token == "" {
		token = r.URL.Query().Get("X-Amz-Security-Token")
	}
	if token == "" { // signature version 2
		token = r.URL.Query().Get("x-amz-security-token")
	}
	expired := time.Now().After(who.Expires)
	switch {
	case token != who.Token && c.service == "s3":
		return who, false, &rpc.Error{Code: "InvalidToken", Message: "The provided token is malformed or otherwise invalid."}
	case token != who.Token && c.service == "sts":
		return who, false, &rpc.Error{Code: "InvalidClientTokenId", Message: "The security token included in the request is invalid", Status: http.StatusForbidden}
	case token != who.Token:
		return who, false, &rpc.Error{Code: "UnrecognizedClientException", Message: "The security token included in the request is invalid."}
	case expired && c.service == "s3":
		return who, false, &rpc.Error{Code: "ExpiredToken", Message: "The provided token has expired."}
	case expired && c.service == "sts":
		return who, false, &rpc.Error{Code: "ExpiredToken", Message: "The security token included in the request is expired", Status: http.StatusForbidden}
	case expired:
		return who, false, &rpc.Error{Code: "ExpiredTokenException", Message: "The security token included in the request is expired"}
	}
	return who, who.RoleARN == "", nil // GetSessionToken's credentials are the account's own
}

// serve answers a request as its caller's rights are.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, c *call) {
	who, admin, err := s.caller(c, r)
	if err == nil {
		err = c.validate()
	}
	if err == nil && s.roles != nil {
		err = s.judgePassedRole(c)
	}
	if err != nil {
		c.writeError(w, r, err)
		return
	}
	service := s.services[c.service]
	if s.roles == nil || admin || c.service == "sts" { // STS asks trust policies
		service.ServeHTTP(w, r)
		return
	}
	if who.RoleARN == "" {
		c.writeError(w, r, &rpc.Error{Code: "AccessDenied", Message: "Access Denied", Status: http.StatusForbidden})
		return
	}
	if c.service == "s3" {
		s.objects.Authorize(w, r, func(p s3.Permission) error {
			return s.roles.allowed(who, p.Action, p.Resource, s3Context(r, p))
		})
		return
	}
	for _, p := range s.permissions(c) {
		if err := s.roles.allowed(who, p.Action, p.Resource, c.context(p)); err != nil {
			c.writeError(w, r, &rpc.Error{Code: "AccessDeniedException", Message: err.Error()})
			return
		}
	}
	service.ServeHTTP(w, r)
}

// s3Context holds the condition keys of an S3 request.
func s3Context(r *http.Request, p s3.Permission) iam.Context {
	ctx := iam.Context{}
	q := r.URL.Query()
	if p.Action == "s3:ListBucket" && r.Method == http.MethodGet && (q.Has("prefix") || q.Has("delimiter") || q.Has("list-type")) {
		ctx.Set("s3:prefix", q.Get("prefix"))
		if q.Has("delimiter") {
			ctx.Set("s3:delimiter", q.Get("delimiter"))
		}
	}
	for header, key := range map[string]string{
		"X-Amz-Server-Side-Encryption":                "s3:x-amz-server-side-encryption",
		"X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "s3:x-amz-server-side-encryption-aws-kms-key-id",
	} {
		if v := r.Header.Get(header); v != "" {
			ctx.Set(key, v)
		}
	}
	return ctx
}

// permissions returns what a SageMaker or CloudWatch Logs request needs.
func (s *Server) permissions(c *call) []s3.Permission {
	member := c.members(nil)
	prefix := "arn:aws:" + c.service + ":" + s.opts.Region + ":" + s.opts.Account + ":"
	if c.service == "logs" {
		resource := "*"
		switch {
		case member("logGroupName") != "" && member("logStreamName") != "":
			resource = prefix + "log-group:" + member("logGroupName") + ":log-stream:" + member("logStreamName")
		case member("logGroupName") != "":
			resource = prefix + "log-group:" + member("logGroupName")
		case member("logGroupIdentifier") != "":
			resource = member("logGroupIdentifier")
		}
		return []s3.Permission{{Action: "logs:" + c.operation, Resource: resource}}
	}
	resource := "*"
	switch {
	case member("TrainingJobName") != "":
		resource = prefix + "training-job/" + member("TrainingJobName")
	case member("ResourceArn") != "":
		resource = member("ResourceArn")
	}
	list := []s3.Permission{{Action: "sagemaker:" + c.operation, Resource: resource}}
	if strings.HasPrefix(c.operation, "Create") && member("Tags") != "" {
		list = append(list, s3.Permission{Action: "sagemaker:AddTags", Resource: resource})
	}
	if role := member("RoleArn"); role != "" {
		list = append(list, s3.Permission{Action: "iam:PassRole", Resource: role})
	}
	return list
}

// context holds the condition keys of a SageMaker or CloudWatch Logs request.
func (c *call) context(p s3.Permission) iam.Context {
	ctx := iam.Context{}
	if c.service != "sagemaker" {
		return ctx
	}
	if p.Action == "iam:PassRole" {
		ctx.Set("iam:PassedToService", "sagemaker.amazonaws.com")
		return ctx
	}
	var body struct {
		Tags           []struct{ Key, Value string }
		ResourceConfig struct {
			InstanceType        string
			InstanceGroups      []struct{ InstanceType string }
			InstancePreferences []struct{ InstanceType string }
		}
		EnableNetworkIsolation bool
	}
	_ = json.Unmarshal(c.body, &body) // the request was checked before
	var keys, types []string
	for _, tag := range body.Tags {
		ctx.Set("aws:RequestTag/"+tag.Key, tag.Value)
		keys = append(keys, tag.Key)
	}
	if t := body.ResourceConfig.InstanceType; t != "" {
		types = append(types, t)
	}
	for _, g := range append(body.ResourceConfig.InstanceGroups, body.ResourceConfig.InstancePreferences...) {
		types = append(types, g.InstanceType)
	}
	ctx.Set("aws:TagKeys", keys...)
	ctx.Set("sagemaker:InstanceTypes", types...)
	ctx.Set("sagemaker:NetworkIsolation", fmt.Sprint(body.EnableNetworkIsolation))
	return ctx
}

// judgePassedRole refuses a job whose role SageMaker could not assume.
func (s *Server) judgePassedRole(c *call) error {
	if c.service != "sagemaker" || !strings.HasPrefix(c.operation, "Create") {
		return nil
	}
	role := c.members(nil)("RoleArn")
	if role == "" || s.roles.trusts(role, "sagemaker.amazonaws.com") {
		return nil
	}
	return rpc.Errorf("ValidationException", "Could not assume role %s. Please ensure that the role exists and allows principal 'sagemaker.amazonaws.com' to assume the role.", role)
}

// platform judges what SageMaker itself does with a job's role.
func (s *Server) platform(roleARN string) func(action, resource string) error {
	if s.roles == nil {
		return nil
	}
	return func(action, resource string) error {
		return s.roles.allowed(sts.Session{RoleARN: roleARN, Name: "SageMaker"}, action, resource, nil)
	}
}
