package aws

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/model"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/rpc"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/s3"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sts"
)

// ServeHTTP answers /health and /_local/ and hands everything else to its
// service.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/health" && r.Header.Get("Authorization") == "" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"ready"}`+"\n")
		return
	}
	if strings.HasPrefix(r.URL.Path, "/_local/") {
		s.local.ServeHTTP(w, r)
		return
	}
	call, err := s.identify(w, r)
	if err != nil {
		rpc.WriteError(w, rpc.Errorf("SerializationException", "%v", err))
		return
	}
	s.requests.count(call.service, call.operation, call.body)
	if s.services[call.service] == nil {
		call.writeError(w, r, &rpc.Error{
			Code: "UnknownOperationException", Status: http.StatusNotImplemented,
			Message: "the local AWS does not have the service " + call.service,
		})
		return
	}
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, call) })
	if f := s.faults.request(call, r); f != nil {
		f.serve(w, r, call, answer)
		return
	}
	answer(w, r)
}

// validate checks a call against AWS's own API model. S3 has none here: its
// constraints are in the protocol.
func (c *call) validate() error {
	switch {
	case c.service == "sts":
		return model.ValidateQuery(c.service, c.operation, c.form)
	case c.service != "s3" && c.operation != "":
		return model.Validate(c.service, c.operation, c.body)
	}
	return nil
}

// writeError answers an error in the protocol of the call's service.
func (c *call) writeError(w http.ResponseWriter, r *http.Request, err error) {
	var e *rpc.Error
	if !errors.As(err, &e) {
		e = &rpc.Error{Code: "InternalFailure", Message: err.Error(), Status: http.StatusInternalServerError}
	}
	status := e.Status
	if status == 0 {
		status = http.StatusBadRequest
	}
	switch c.service {
	case "s3":
		s3.WriteError(w, r, status, e.Code, e.Message)
	case "sts":
		sts.WriteError(w, status, e.Code, e.Message)
	default:
		if isForm(r) { // EC2's and the Query protocol, of services that are not here
			sts.WriteError(w, status, e.Code, e.Message)
			return
		}
		rpc.WriteError(w, e)
	}
}

// call is a request of which is known what it asks for.
type call struct {
	service, operation string
	body               []byte     // of a JSON request; it can be read again from the request
	form               url.Values // of a Query request
}

// identify finds out what a request asks for.
func (s *Server) identify(w http.ResponseWriter, r *http.Request) (*call, error) {
	c := &call{service: serviceOf(r)}
	switch c.service {
	case "s3":
		c.operation = s3.Operation(r)
		return c, nil
	case "sts":
		r.Body = http.MaxBytesReader(w, r.Body, rpc.MaxBody)
		if err := r.ParseForm(); err != nil {
			return nil, err
		}
		c.form, c.operation = r.Form, r.Form.Get("Action")
		return c, nil
	}
	_, c.operation = rpc.Operation(r)
	var err error
	if c.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, rpc.MaxBody)); err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(c.body))
	return c, nil
}

// targets are the prefixes of X-Amz-Target and the services that they belong to.
var targets = map[string]string{
	"SageMaker":     "sagemaker",
	"Logs_20140328": "logs",
}

// credential is what a signature's credential says: access key and scope.
type credential struct {
	accessKey, region, service string
}

// credentialOf reads the credential of a signed or presigned request; it is
// zero for an unsigned one.
func credentialOf(r *http.Request) credential {
	raw := r.URL.Query().Get("X-Amz-Credential")
	header := r.Header.Get("Authorization")
	if _, after, ok := strings.Cut(header, "Credential="); ok {
		raw, _, _ = strings.Cut(after, ",")
	}
	parts := strings.Split(strings.TrimSpace(raw), "/")
	switch n := len(parts); {
	case n >= 5: // SigV4: key/date/region/service/aws4_request
		return credential{strings.Join(parts[:n-4], "/"), parts[n-3], parts[n-2]}
	case n == 4: // SigV4A: key/date/service/aws4_request
		return credential{parts[0], "*", parts[2]}
	}
	// Signature version 2, which boto3 presigns with.
	if key := r.URL.Query().Get("AWSAccessKeyId"); key != "" {
		return credential{accessKey: key, service: "s3"}
	}
	if rest, ok := strings.CutPrefix(header, "AWS "); ok {
		key, _, _ := strings.Cut(rest, ":")
		return credential{accessKey: key, service: "s3"}
	}
	return credential{}
}

// serviceOf names the service that a request is for.
func serviceOf(r *http.Request) string {
	if c := credentialOf(r); c.service != "" {
		return c.service
	}
	if target, _ := rpc.Operation(r); target != "" {
		return targets[target]
	}
	// The Query protocol: AssumeRoleWithWebIdentity is not signed.
	if isForm(r) {
		return "sts"
	}
	return "s3"
}

// isForm says whether a request is of the Query protocol, whose answers are XML.
func isForm(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Path == "/" && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded")
}

// session returns the temporary credentials that a request was signed with,
// when they were given out here.
func (s *Server) session(r *http.Request) (sts.Session, bool) {
	return s.sessions.Lookup(credentialOf(r).accessKey)
}

// localRoutes are the paths under /_local/, which are ours and not AWS's.
func (s *Server) localRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/_local/requests", &s.requests)
	mux.Handle("/_local/faults", &s.faults)
	mux.HandleFunc("GET "+credentialsPath+"{token}", s.serveCredentials)
	return mux
}

func (s *Server) serveCredentials(w http.ResponseWriter, r *http.Request) {
	s.sts.ServeContainer(w, r.PathValue("token"))
}
