package aws

import (
	"io"
	"net/http"
	"strings"
)

// ServeHTTP answers /health and hands everything else to its service.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/health" && r.Header.Get("Authorization") == "" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"ready"}`+"\n")
		return
	}
	name := serviceOf(r)
	service := s.services[name]
	if service == nil {
		http.Error(w, "local AWS has no service "+name, http.StatusNotImplemented)
		return
	}
	service.ServeHTTP(w, r)
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
	switch {
	case len(parts) >= 5: // SigV4: key/date/region/service/aws4_request
		n := len(parts)
		return credential{strings.Join(parts[:n-4], "/"), parts[n-3], parts[n-2]}
	case len(parts) == 4: // SigV4A: key/date/service/aws4_request
		return credential{parts[0], "*", parts[2]}
	}
	return credential{}
}

// serviceOf names the service that a request is for.
func serviceOf(r *http.Request) string {
	if c := credentialOf(r); c.service != "" {
		return c.service
	}
	if target, _, ok := strings.Cut(r.Header.Get("X-Amz-Target"), "."); ok {
		return targets[target]
	}
	// The Query protocol: AssumeRoleWithWebIdentity is not signed.
	if r.Method == http.MethodPost && r.URL.Path == "/" && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return "sts"
	}
	return "s3"
}
