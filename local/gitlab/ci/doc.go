// Package ci evaluates a repository's .gitlab-ci.yml as a GitLab server does: it
// turns the file into the jobs of a pipeline and each job into the payload that
// a runner gets.
//
// A keyword that is not known here is an error that names file, line, job and
// keyword; nothing in the file is ever ignored. The order of work is GitLab's:
// includes are merged, !reference tags are resolved, extends is resolved, and
// then workflow, rules and parallel decide which jobs there are.
package ci
