package match

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// maxLinks is how many links a name may lead through, as in Linux.
const maxLinks = 40

var (
	errLeaves = errors.New("a link leads out of the project")
	errLoop   = errors.New("too many links")
)

// place finds where name really lies and through which links it leads there. If
// name itself is a link, it is followed only if follow is set. Whether there is
// anything at the place is not said. Of several links, the last is the one that
// leads out of the project, if the error is errLeaves.
func (s *selection) place(name string, follow bool) (real string, through []string, err error) {
	real = "."
	for pending := strings.Split(name, "/"); len(pending) > 0; {
		part := pending[0]
		pending = pending[1:]
		switch {
		case part == "" || part == ".":
			continue
		case part == ".." && real == ".":
			return "", through, errLeaves
		case part == "..":
			real = path.Dir(real) // the real parent: no part of it is a link
			continue
		}
		next := path.Join(real, part)
		if len(pending) == 0 && !follow {
			return next, through, nil
		}
		info, err := s.root.Lstat(next)
		if err != nil {
			return "", nil, err
		}
		if info.Mode().Type() != fs.ModeSymlink {
			real = next
			continue
		}
		if through = append(through, next); len(through) > maxLinks {
			return "", nil, errLoop
		}
		target, err := s.root.Readlink(next)
		if err != nil {
			return "", nil, err
		}
		if path.IsAbs(target) {
			rel, ok := strings.CutPrefix(path.Clean(target)+"/", s.dir+"/")
			if !ok {
				return "", through, errLeaves
			}
			real, target = ".", rel
		}
		pending = append(strings.Split(target, "/"), pending...)
	}
	return real, through, nil
}

// barred says whether a pattern looks for something behind a link that leads out
// of the project.
func (s *selection) barred(link string) bool {
	if _, _, err := s.place(link, true); !errors.Is(err, errLeaves) {
		return false
	}
	for _, pattern := range s.pattern.Paths {
		rel, err := s.relative(pattern)
		if err != nil {
			continue
		}
		for i, c := range rel {
			if c != '/' || hasMeta(path.Base(rel[:i])) { // a wildcard follows no link
				continue
			}
			if ok, err := doublestar.Match(rel[:i], link); err == nil && ok {
				return true
			}
		}
	}
	return false
}
