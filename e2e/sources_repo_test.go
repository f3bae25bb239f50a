package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// sources are the git repositories that jobs are made from.
type sources struct{ projects map[string]repositoryOf }

type repositoryOf struct{ dir, sha string }

// newSources makes the repositories: demo for most tests, and one with a
// submodule, which is library.
func newSources(dir string) (*sources, error) {
	s := &sources{projects: map[string]repositoryOf{}}
	demo := map[string]string{
		"README":              "read me\n",
		"bin/tool*":           "#!/bin/sh\necho tool\n",
		"data/kept.txt":       "kept\n",
		"data/other.txt":      "other\n",
		"naïve name/ünï.txt":  "unicode\n",
		".gitignore":          "ignored/\n*.tmp\n",
		"readlink@":           "README",
		".hidden/config.json": "{}\n",
	}
	library := map[string]string{"library.txt": "from the library\n"}
	for name, files := range map[string]map[string]string{"demo": demo, "library": library} {
		if err := s.add(filepath.Join(dir, name), "group/"+name, files); err != nil {
			return nil, err
		}
	}
	return s, s.addWithSubmodule(filepath.Join(dir, "parent"))
}

// add makes a repository of the files. A name that ends in * is executable, one
// that ends in @ is a symbolic link.
func (s *sources) add(dir, project string, files map[string]string) error {
	if err := git("", "init", "--quiet", "--initial-branch=main", dir); err != nil {
		return err
	}
	for name, content := range files {
		path := filepath.Join(dir, strings.TrimRight(name, "*@"))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		var err error
		switch {
		case strings.HasSuffix(name, "@"):
			err = os.Symlink(content, path)
		case strings.HasSuffix(name, "*"):
			err = os.WriteFile(path, []byte(content), 0o755)
		default:
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			return err
		}
	}
	return s.commit(dir, project)
}

func (s *sources) commit(dir, project string) error {
	if err := git(dir, "add", "--all"); err != nil {
		return err
	}
	if err := git(dir, "commit", "--quiet", "--message=Add the files"); err != nil {
		return err
	}
	sha, err := gitCommand(dir, "rev-parse", "HEAD").Output()
	s.projects[project] = repositoryOf{dir: dir, sha: strings.TrimSpace(string(sha))}
	return err
}

// addWithSubmodule makes group/parent, whose submodule "library" has a relative
// URL, as GitLab recommends: the runner resolves it against the parent's own.
func (s *sources) addWithSubmodule(dir string) error {
	if err := s.add(dir, "group/parent", map[string]string{"README": "parent\n"}); err != nil {
		return err
	}
	library := s.projects["group/library"]
	modules := "[submodule \"library\"]\n\tpath = library\n\turl = ../library.git\n"
	if err := os.WriteFile(filepath.Join(dir, ".gitmodules"), []byte(modules), 0o644); err != nil {
		return err
	}
	if err := git(dir, "update-index", "--add", "--cacheinfo", "160000,"+library.sha+",library"); err != nil {
		return err
	}
	if err := git(dir, "add", ".gitmodules"); err != nil {
		return err
	}
	if err := git(dir, "commit", "--quiet", "--message=Add the library"); err != nil {
		return err
	}
	sha, err := gitCommand(dir, "rev-parse", "HEAD").Output()
	s.projects["group/parent"] = repositoryOf{dir: dir, sha: strings.TrimSpace(string(sha))}
	return err
}

func git(dir string, args ...string) error {
	if out, err := gitCommand(dir, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func gitCommand(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.com",
		"GIT_COMMITTER_NAME=Test", "GIT_COMMITTER_EMAIL=test@example.com")
	return cmd
}
