package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab/ci"
)

// repository is the user's git repository, at the commit to run. It is only
// read.
type repository struct {
	ctx    context.Context // one run's: ci.Source has none
	dir    string
	gitDir string
	path   string // of the project: "group/name"
	commit ci.Commit
	dirty  bool
}

func openRepository(ctx context.Context, o Options) (*repository, error) {
	r := &repository{ctx: ctx, dir: o.Dir}
	if info, err := os.Stat(o.Dir); err != nil {
		return nil, fmt.Errorf("the git repository: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("the git repository: %s is no directory", o.Dir)
	}
	top, err := r.git("rev-parse", "--path-format=absolute", "--git-common-dir")
	if err != nil {
		return nil, fmt.Errorf("%s is no git repository: commit the project first: %w", o.Dir, err)
	}
	r.gitDir = top
	if work, err := r.git("rev-parse", "--show-toplevel"); err == nil && work != "" {
		r.dir = work
	}
	r.path = r.projectPath()
	ref := o.Ref
	if ref == "" {
		ref = "HEAD"
	}
	if r.commit.SHA, err = r.git("rev-parse", "--verify", "--quiet", "--end-of-options", ref+"^{commit}"); err != nil {
		return nil, fmt.Errorf("there is no commit %q in %s", ref, r.dir)
	}
	if err := r.readCommit(); err != nil {
		return nil, err
	}
	r.findRef(ref)
	if r.commit.DefaultBranch = o.DefaultBranch; r.commit.DefaultBranch == "" {
		r.commit.DefaultBranch = r.defaultBranch()
	}
	r.commit.Protected = r.commit.Branch != "" && r.commit.Branch == r.commit.DefaultBranch
	status, err := r.git("status", "--porcelain", "--ignore-submodules=none")
	r.dirty = err == nil && status != ""
	return r, nil
}

// git runs git in the repository and returns what it prints, trimmed.
func (r *repository) git(args ...string) (string, error) {
	out, err := r.gitRaw(args...)
	return strings.TrimSpace(string(out)), err
}

func (r *repository) gitRaw(args ...string) ([]byte, error) {
	cmd := exec.CommandContext(r.ctx, "git", args...)
	cmd.Dir = r.dir
	// The repository may be another user's; it is only read.
	cmd.Env = append(os.Environ(), "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*", "GIT_OPTIONAL_LOCKS=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("git %s: %w", args[0], err)
		if said := bytes.TrimSpace(stderr.Bytes()); len(said) > 0 {
			err = fmt.Errorf("%w: %s", err, said)
		}
	}
	return out, err
}

func (r *repository) readCommit() error {
	out, err := r.gitRaw("log", "-1", "--format=%aN <%aE>%x00%cI%x00%B", r.commit.SHA)
	if err != nil {
		return err
	}
	fields := strings.SplitN(string(out), "\x00", 3)
	if len(fields) != 3 {
		return errors.New("git log: unexpected output")
	}
	r.commit.Author = fields[0]
	r.commit.Timestamp, _ = time.Parse(time.RFC3339, fields[1])
	r.commit.Message = strings.TrimSuffix(fields[2], "\n")
	r.commit.BeforeSHA, _ = r.git("rev-parse", "--verify", "--quiet", r.commit.SHA+"^")
	return nil
}

// findRef finds the branch or tag that the pipeline is for.
func (r *repository) findRef(ref string) {
	if name, err := r.git("rev-parse", "--symbolic-full-name", ref); err == nil {
		if branch, ok := strings.CutPrefix(name, "refs/heads/"); ok {
			r.commit.Branch = branch
			return
		}
		if tag, ok := strings.CutPrefix(name, "refs/tags/"); ok {
			r.commit.Tag = tag
			return
		}
	}
	// A detached HEAD has no branch; a pipeline on GitLab always has one.
	r.commit.Branch = "detached-" + r.commit.SHA[:8]
}

func (r *repository) defaultBranch() string {
	if name, err := r.git("symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"); err == nil {
		return strings.TrimPrefix(name, "origin/")
	}
	for _, name := range []string{"main", "master"} {
		if _, err := r.git("rev-parse", "--verify", "--quiet", "refs/heads/"+name); err == nil {
			return name
		}
	}
	return r.commit.Branch
}

var unfitForPath = regexp.MustCompile(`[^a-zA-Z0-9_.-]+`)

// projectPath is the path that the project has at its origin, else
// "local/<directory>".
func (r *repository) projectPath() string {
	fallback := "local/" + strings.Trim(unfitForPath.ReplaceAllString(filepath.Base(r.dir), "-"), "-.")
	origin, err := r.git("config", "--get", "remote.origin.url")
	if err != nil {
		return fallback
	}
	var where string
	if u, err := url.Parse(origin); err == nil && u.Host != "" {
		where = u.Path
	} else if _, scp, ok := strings.Cut(origin, ":"); ok && !strings.Contains(origin, "://") {
		where = scp
	} else {
		return fallback // a path on this machine
	}
	where = strings.TrimSuffix(strings.Trim(path.Clean("/"+where), "/"), ".git")
	if !strings.Contains(where, "/") || unfitForPath.MatchString(strings.ReplaceAll(where, "/", "")) {
		return fallback
	}
	return where
}

// ReadFile reads a file of the commit (ci.Source).
func (r *repository) ReadFile(name string) ([]byte, error) {
	content, err := r.gitRaw("cat-file", "blob", r.commit.SHA+":"+name)
	if err != nil && r.ctx.Err() == nil {
		return nil, fmt.Errorf("it is not in commit %s", r.commit.SHA[:8])
	}
	return content, err
}

// Files lists the files of the commit (ci.Source).
func (r *repository) Files() ([]string, error) {
	out, err := r.gitRaw("ls-tree", "-r", "--name-only", "-z", r.commit.SHA)
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(string(out), func(c rune) bool { return c == 0 }), nil
}

func (r *repository) lastCommit(name string) string {
	sha, _ := r.git("log", "-1", "--format=%H", r.commit.SHA, "--", name)
	return sha
}

// mirror makes a bare repository with the refs of the user's and those that a
// GitLab server adds. The objects stay where they are.
func (r *repository) mirror(dir string, pipelineID int64) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("mirror the repository: %w", err)
	}
	if _, err := r.git("init", "--quiet", "--bare", dir); err != nil {
		return fmt.Errorf("mirror the repository: %w", err)
	}
	alternates := filepath.Join(r.gitDir, "objects") + "\n"
	if err := os.WriteFile(filepath.Join(dir, "objects", "info", "alternates"), []byte(alternates), 0o600); err != nil {
		return fmt.Errorf("mirror the repository: %w", err)
	}
	if shallow, err := os.ReadFile(filepath.Join(r.gitDir, "shallow")); err == nil {
		if err := os.WriteFile(filepath.Join(dir, "shallow"), shallow, 0o600); err != nil {
			return fmt.Errorf("mirror the repository: %w", err)
		}
	}
	refs, err := r.git("for-each-ref", "--format=create %(refname) %(objectname)", "refs/heads", "refs/tags")
	if err != nil {
		return fmt.Errorf("mirror the repository: %w", err)
	}
	commands := []string{refs, "update refs/pipelines/" + strconv.FormatInt(pipelineID, 10) + " " + r.commit.SHA}
	if branch := "refs/heads/" + r.commit.Branch; r.commit.Branch != "" && !strings.Contains(refs+" ", " "+branch+" ") {
		commands = append(commands, "create "+branch+" "+r.commit.SHA)
	}
	cmd := exec.CommandContext(r.ctx, "git", "--git-dir", dir, "update-ref", "--stdin")
	cmd.Stdin = strings.NewReader(strings.TrimPrefix(strings.Join(commands, "\n")+"\n", "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mirror the repository: git update-ref: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// refspecs are those of GitLab (Ci::BuildRunnerPresenter): the pipeline's own
// ref and the branch or tag; without a depth all branches and tags.
func (r *repository) refspecs(pipelineID int64, depth int) []string {
	specs := []string{fmt.Sprintf("+refs/pipelines/%d:refs/pipelines/%d", pipelineID, pipelineID)}
	switch {
	case depth == 0:
		return append(specs, "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
	case r.commit.Tag != "":
		return append(specs, fmt.Sprintf("+refs/tags/%s:refs/tags/%s", r.commit.Tag, r.commit.Tag))
	default:
		return append(specs, fmt.Sprintf("+refs/heads/%s:refs/remotes/origin/%s", r.commit.Branch, r.commit.Branch))
	}
}

// submodules finds the submodules with relative addresses that are checked out:
// project path to git directory.
func (r *repository) submodules() map[string]string {
	found := map[string]string{}
	entries, err := r.git("config", "--blob", r.commit.SHA+":.gitmodules", "--get-regexp", `^submodule\..*\.url$`)
	if err != nil {
		return found
	}
	for entry := range strings.Lines(entries) {
		key, address, ok := strings.Cut(strings.TrimSpace(entry), " ")
		if !ok || (!strings.HasPrefix(address, "../") && !strings.HasPrefix(address, "./")) {
			continue
		}
		name := strings.TrimSuffix(strings.TrimPrefix(key, "submodule."), ".url")
		dir := filepath.Join(r.gitDir, "modules", name)
		if _, err := os.Stat(dir); err != nil || !filepath.IsLocal(name) {
			continue
		}
		project := strings.TrimSuffix(strings.TrimPrefix(path.Join("/", r.path, address), "/"), ".git")
		found[project] = dir
	}
	return found
}
