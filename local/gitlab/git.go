package gitlab

import (
	"bytes"
	"io"
	"net/http"
	"net/http/cgi"
	"os/exec"
	"strings"
)

// maxGitRequest limits what git may ask with: the wants and haves of a fetch.
const maxGitRequest = 32 << 20

// serveGit serves a project's repository for reading, by git's own
// http-backend. As on GitLab, git is first told 401 and then comes with the
// job's token as password.
func (c *Coordinator) serveGit(w http.ResponseWriter, r *http.Request) {
	projectPath, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), ".git/")
	if !ok || (rest != "info/refs" && rest != "git-upload-pack") ||
		(rest == "info/refs" && r.URL.Query().Get("service") != "git-upload-pack") {
		http.NotFound(w, r)
		return
	}
	_, password, _ := r.BasicAuth()
	if c.runningJob(password) == nil {
		w.Header().Set("WWW-Authenticate", `Basic realm="GitLab"`)
		http.Error(w, "HTTP Basic: Access denied", http.StatusUnauthorized)
		return
	}
	c.mu.Lock()
	dir := c.repositories[projectPath]
	c.mu.Unlock()
	if dir == "" {
		http.Error(w, "The project you were looking for could not be found or you don't have permission to view it.", http.StatusNotFound)
		return
	}
	git, err := exec.LookPath("git")
	if err != nil {
		http.Error(w, "git is not installed", http.StatusInternalServerError)
		return
	}
	backend := cgi.Handler{
		Path: git, Args: []string{"http-backend"}, Dir: dir,
		Root: "/" + projectPath + ".git",
		Env: []string{
			"GIT_PROJECT_ROOT=" + dir,
			"GIT_HTTP_EXPORT_ALL=1",
			// The repository may be another user's; reading it is harmless.
			"GIT_CONFIG_COUNT=3",
			"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
			// GitLab lets jobs fetch commits that no ref points to any more.
			"GIT_CONFIG_KEY_1=uploadpack.allowAnySHA1InWant", "GIT_CONFIG_VALUE_1=true",
			"GIT_CONFIG_KEY_2=uploadpack.allowFilter", "GIT_CONFIG_VALUE_2=true",
		},
		InheritEnv: []string{"PATH", "HOME"},
		Logger:     nil,
		Stderr:     c.gitErrors(),
	}
	if protocol := r.Header.Get("Git-Protocol"); protocol != "" {
		backend.Env = append(backend.Env, "GIT_PROTOCOL="+protocol)
	}
	if r.ContentLength < 0 {
		// net/http/cgi refuses a chunked body; git sends one when it is long.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxGitRequest))
		if err != nil {
			http.Error(w, "the request is too long", http.StatusRequestEntityTooLarge)
			return
		}
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	}
	backend.ServeHTTP(w, r)
}

func (c *Coordinator) gitErrors() *lineLogger {
	return &lineLogger{log: c.options.Log.WithField("program", "git http-backend")}
}
