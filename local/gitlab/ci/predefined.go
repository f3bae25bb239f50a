package ci

import (
	"strconv"
	"strings"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// Commit is the commit that a pipeline is for.
type Commit struct {
	SHA, BeforeSHA string
	Branch, Tag    string // one of them
	Message        string
	Author         string // "Name <email>"
	Timestamp      time.Time
	DefaultBranch  string
	Protected      bool
}

// Ref is the branch or tag.
func (c Commit) Ref() string {
	if c.Tag != "" {
		return c.Tag
	}
	return c.Branch
}

// Project is the project that a pipeline belongs to.
type Project struct {
	ID        int64
	Path      string // "group/name"
	URL       string // of its page
	ServerURL string
}

// Predefined are the variables that GitLab sets for all jobs of a pipeline
// (docs: ci/variables/predefined_variables), without those of the server and of
// the single job. GitLab expands no references in their values: commit messages
// hold dollar signs.
func Predefined(project Project, commit Commit, pipelineID int64, source string) []gitlab.Variable {
	title, description, _ := strings.Cut(commit.Message, "\n")
	namespace, name := project.Path, project.Path
	if at := strings.LastIndex(project.Path, "/"); at >= 0 {
		namespace, name = project.Path[:at], project.Path[at+1:]
	}
	root, _, _ := strings.Cut(namespace, "/")
	before := commit.BeforeSHA
	setDefault(&before, strings.Repeat("0", 40))
	var variables []gitlab.Variable
	add := func(key, value string) {
		variables = append(variables, gitlab.Variable{Key: key, Value: value, Public: true, Raw: strings.Contains(value, "$")})
	}
	add("CI_PIPELINE_ID", strconv.FormatInt(pipelineID, 10))
	add("CI_PIPELINE_IID", strconv.FormatInt(pipelineID, 10))
	add("CI_PIPELINE_SOURCE", source)
	add("CI_PIPELINE_URL", project.URL+"/-/pipelines/"+strconv.FormatInt(pipelineID, 10))
	add("CI_PIPELINE_CREATED_AT", time.Now().UTC().Format(time.RFC3339))
	add("CI_COMMIT_SHA", commit.SHA)
	add("CI_COMMIT_SHORT_SHA", commit.SHA[:min(8, len(commit.SHA))])
	add("CI_COMMIT_BEFORE_SHA", before)
	add("CI_COMMIT_REF_NAME", commit.Ref())
	add("CI_COMMIT_REF_SLUG", slug(commit.Ref()))
	add("CI_COMMIT_REF_PROTECTED", strconv.FormatBool(commit.Protected))
	if commit.Tag != "" {
		add("CI_COMMIT_TAG", commit.Tag)
		add("CI_COMMIT_TAG_MESSAGE", "")
	} else {
		add("CI_COMMIT_BRANCH", commit.Branch)
	}
	add("CI_COMMIT_TITLE", title)
	add("CI_COMMIT_DESCRIPTION", strings.TrimLeft(description, "\n"))
	add("CI_COMMIT_MESSAGE", commit.Message)
	add("CI_COMMIT_AUTHOR", commit.Author)
	add("CI_COMMIT_TIMESTAMP", commit.Timestamp.Format(time.RFC3339))
	add("CI_DEFAULT_BRANCH", commit.DefaultBranch)
	add("CI_DEFAULT_BRANCH_SLUG", slug(commit.DefaultBranch))
	author, email, _ := strings.Cut(strings.TrimSuffix(commit.Author, ">"), " <")
	login, _, _ := strings.Cut(email, "@")
	add("GITLAB_USER_ID", "1")
	add("GITLAB_USER_NAME", author)
	add("GITLAB_USER_EMAIL", email)
	add("GITLAB_USER_LOGIN", login)
	add("CI_CONFIG_PATH", ".gitlab-ci.yml")
	add("CI_PROJECT_ID", strconv.FormatInt(project.ID, 10))
	add("CI_PROJECT_NAME", name)
	add("CI_PROJECT_TITLE", name)
	add("CI_PROJECT_PATH", project.Path)
	add("CI_PROJECT_PATH_SLUG", slug(project.Path))
	add("CI_PROJECT_NAMESPACE", namespace)
	add("CI_PROJECT_NAMESPACE_SLUG", slug(namespace))
	add("CI_PROJECT_ROOT_NAMESPACE", root)
	add("CI_PROJECT_URL", project.URL)
	add("CI_PROJECT_VISIBILITY", "private")
	return variables
}

// slug is how GitLab makes a name fit for a host name (Gitlab::Utils.slugify):
// lower case, 63 characters, nothing but letters, digits and hyphens, none of
// those at the ends.
func slug(text string) string {
	mapped := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		default:
			return '-'
		}
	}, text)
	if len(mapped) > 63 {
		mapped = mapped[:63]
	}
	return strings.Trim(mapped, "-")
}
