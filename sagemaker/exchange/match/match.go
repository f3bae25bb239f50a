// Package match finds the files that GitLab's artifacts and cache keywords
// name, as the runner's own archiver does (commands/helpers/file_archiver.go),
// but through os.Root, so that it can be let loose on a tree that others wrote.
package match

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"mvdan.cc/sh/v3/shell"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange/archive"
)

// Expand resolves the variables in patterns as the runner's archiver does; a
// pattern that cannot be expanded stays as it is and is warned of.
func Expand(patterns []exchange.Pattern, env func(string) string) (expanded []exchange.Pattern, warnings []string) {
	all := func(list []string) []string {
		out := slices.Clone(list)
		for i, p := range out {
			e, err := shell.Expand(p, env)
			if err != nil {
				warnings = append(warnings, fmt.Sprintf("invalid path %q: %v", p, err))
				continue
			}
			out[i] = e
		}
		return out
	}
	for _, p := range patterns {
		expanded = append(expanded, exchange.Pattern{Paths: all(p.Paths), Exclude: all(p.Exclude), Untracked: p.Untracked})
	}
	return expanded, warnings
}

// Select returns the names of the files, directories and links below root that
// any of the expanded patterns selects: sorted, relative, a directory before
// its entries. dir is the absolute path at which scripts see root. Patterns
// that are no patterns or leave the project are warned of, as are patterns that
// match nothing.
func Select(ctx context.Context, root *os.Root, dir string, patterns []exchange.Pattern) (names, warnings []string, err error) {
	found := map[string]struct{}{}
	for _, p := range patterns {
		s := selection{root: root, dir: path.Clean(dir), pattern: p, found: found}
		for _, q := range p.Paths {
			if err := s.path(ctx, q); err != nil {
				return nil, nil, fmt.Errorf("find %q: %w", q, err)
			}
		}
		if p.Untracked {
			if err := s.untracked(ctx); err != nil {
				return nil, nil, fmt.Errorf("find untracked files: %w", err)
			}
		}
		warnings = append(warnings, s.warnings...)
	}
	return slices.Sorted(maps.Keys(found)), warnings, nil
}

// selection is one Pattern at work.
type selection struct {
	root     *os.Root
	dir      string
	pattern  exchange.Pattern
	found    map[string]struct{}
	warnings []string
}

func (s *selection) warnf(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}

func (s *selection) path(ctx context.Context, pattern string) error {
	if pattern == "" {
		s.warnf("No matching files. Path is empty.")
		return nil
	}
	rel, err := s.relative(pattern)
	if err != nil {
		s.warnf("%v", err)
		return nil
	}
	matches, err := s.glob(rel)
	if err != nil {
		s.warnf("%s: %v", pattern, err)
		return nil
	}
	before := len(s.found)
	for _, m := range matches {
		if err := archive.Walk(ctx, s.root, m, func(name string, _ fs.FileInfo, err error) error {
			if err != nil {
				s.warnf("%s: %v", name, err)
				return nil
			}
			s.add(name)
			return nil
		}); err != nil {
			return err
		}
	}
	if len(matches) == 0 && before == len(s.found) {
		s.warnf("%s: no matching files. Ensure that the artifact path is relative to the working directory (%s)", pattern, s.dir)
	}
	return nil
}

// relative is the runner's findRelativePathInProject.
func (s *selection) relative(pattern string) (string, error) {
	if path.Clean(pattern) == s.dir {
		return ".", nil
	}
	base, glob := pattern, ""
	if strings.ContainsAny(pattern, "*?[{") {
		base, glob = doublestar.SplitPattern(pattern)
	}
	if !path.IsAbs(base) {
		base = path.Join(s.dir, base)
	}
	rel, err := filepath.Rel(s.dir, path.Clean(base))
	if err != nil {
		return "", fmt.Errorf("could not resolve artifact relative path %s: %w", pattern, err)
	}
	if rel == ".." || strings.HasPrefix(rel, "../") {
		return "", fmt.Errorf("artifact path is not a subpath of project directory: %s", pattern)
	}
	return path.Join(rel, glob), nil
}

// glob is doublestar.FilepathGlob with WithNoFollow, within the root.
func (s *selection) glob(pattern string) ([]string, error) {
	if !hasMeta(pattern) {
		name := unescape(pattern)
		if _, err := s.root.Lstat(name); err != nil {
			return nil, nil // missing, or behind a link that leaves the project
		}
		return []string{name}, nil
	}
	base, glob := doublestar.SplitPattern(pattern)
	sub, err := fs.Sub(s.root.FS(), base)
	if err != nil {
		return nil, err
	}
	matches, err := doublestar.Glob(sub, glob, doublestar.WithNoFollow())
	for i := range matches {
		matches[i] = path.Join(base, matches[i])
	}
	return matches, err
}

func hasMeta(pattern string) bool {
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '*', '?', '[', '{':
			return true
		}
	}
	return false
}

func unescape(pattern string) string {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] == '\\' && i+1 < len(pattern) {
			i++
		}
		b.WriteByte(pattern[i])
	}
	return b.String()
}

// add takes a name in unless it is excluded.
func (s *selection) add(name string) {
	if name == "." || s.excluded(name) {
		return
	}
	s.found[name] = struct{}{}
}

func (s *selection) excluded(name string) bool {
	for _, pattern := range s.pattern.Exclude {
		rel, err := s.relative(pattern)
		if err != nil {
			return false // the runner, too, looks at no further pattern then
		}
		if ok, err := doublestar.Match(rel, name); err == nil && ok {
			return true
		}
	}
	return false
}
