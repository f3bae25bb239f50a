package aws

import (
	"strings"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sagemaker"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sts"
)

// credentialsPath is where containers read their role's credentials.
const credentialsPath = "/_local/credentials/"

// containerCredentials hands out the execution role's credentials to
// containers.
type containerCredentials struct {
	sessions *sts.Sessions
	address  string // "http://127.0.0.1:port"
}

var _ sagemaker.Credentials = containerCredentials{}

func (c containerCredentials) Issue(roleARN, session string) (string, error) {
	return c.address + credentialsPath + c.sessions.IssueContainer(sts.Session{RoleARN: roleARN, Name: session}), nil
}

func (c containerCredentials) Revoke(address string) {
	c.sessions.RevokeContainer(strings.TrimPrefix(address, c.address+credentialsPath))
}
