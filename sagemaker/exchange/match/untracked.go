package match

import (
	"context"
	"errors"
	"io/fs"
	"path"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange/archive"
)

// untracked takes in what `git ls-files --others` lists. It reads git's index
// itself: the image need not have git, and git would obey a configuration that
// the job can write.
func (s *selection) untracked(ctx context.Context) error {
	tracked, err := readIndex(s.root)
	if errors.Is(err, fs.ErrNotExist) {
		s.warnf("untracked: there is no git repository in %s", s.dir)
		return nil
	}
	if err != nil {
		s.warnf("untracked: %v", err)
		return nil
	}
	if info, err := s.root.Lstat(".git"); err == nil && info.IsDir() {
		s.goAlong(".git/index")
	}
	return s.untrackedIn(ctx, ".", tracked)
}

func (s *selection) untrackedIn(ctx context.Context, dir string, tracked map[string]struct{}) error {
	return archive.Entries(ctx, s.root, dir, func(name string, info fs.FileInfo, err error) error {
		if err != nil {
			s.warnf("%s: %v", name, err)
			return nil
		}
		if path.Base(name) == ".git" {
			return nil
		}
		if _, ok := tracked[name]; ok {
			return nil // a file, or a submodule
		}
		if !info.IsDir() {
			s.add(name, name, info)
			return nil
		}
		if _, err := s.root.Lstat(name + "/.git"); err == nil {
			s.add(name, name, info) // a repository that is no submodule: git lists the directory alone
			return nil
		}
		return s.untrackedIn(ctx, name, tracked)
	})
}
