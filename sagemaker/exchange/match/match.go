// Package match finds the files that GitLab's artifacts and cache keywords
// name, as the runner's own archiver does (commands/helpers/file_archiver.go),
// but through os.Root, so that it can be let loose on a tree that others wrote.
package match

import (
	"context"
	"errors"
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

// Selection is what patterns select in a tree. All names are relative and
// sorted, so a directory comes before its entries.
type Selection struct {
	// Names are the files, directories and links selected, none of them behind a
	// link: data/x is real/x if data is a link to real.
	Names []string
	// Along is what else a copy of the tree needs for the patterns to select the
	// same there: links that they led through, what selected links point to
	// (the runner's archiver passes over a link to nothing), and git's index.
	Along []string
	// Warnings are of patterns that are none, leave the project, or match nothing.
	Warnings []string
	// Barred are links out of the project behind which a pattern looks for
	// something: nothing is read there, and whoever had them in a copy would take
	// what is there for it.
	Barred []string
}

// All are the Names and what goes along, sorted.
func (s Selection) All() []string {
	return slices.Sorted(slices.Values(slices.Concat(s.Names, s.Along)))
}

// Select finds what any of the expanded patterns selects below root. dir is the
// absolute path at which scripts see root.
func Select(ctx context.Context, root *os.Root, dir string, patterns []exchange.Pattern) (Selection, error) {
	var result Selection
	all := selection{root: root, dir: path.Clean(dir), found: map[string]fs.FileMode{}, along: map[string]struct{}{}, bar: map[string]struct{}{}}
	for _, p := range patterns {
		s := all
		s.pattern = p
		for _, q := range p.Paths {
			if err := s.path(ctx, q); err != nil {
				return Selection{}, fmt.Errorf("find %q: %w", q, err)
			}
		}
		if p.Untracked {
			if err := s.untracked(ctx); err != nil {
				return Selection{}, fmt.Errorf("find untracked files: %w", err)
			}
		}
		result.Warnings = append(result.Warnings, s.warnings...)
		all.pattern.Paths = append(all.pattern.Paths, p.Paths...)
	}
	for _, name := range slices.Sorted(maps.Keys(all.found)) {
		if all.found[name] == fs.ModeSymlink && all.barred(name) {
			all.bar[name] = struct{}{}
		}
		if _, ok := all.bar[name]; !ok {
			result.Names = append(result.Names, name)
		}
		delete(all.along, name)
	}
	result.Barred = slices.Sorted(maps.Keys(all.bar))
	result.Along = slices.Sorted(maps.Keys(all.along))
	return result, nil
}

// selection is one Pattern at work.
type selection struct {
	root     *os.Root
	dir      string
	pattern  exchange.Pattern
	found    map[string]fs.FileMode // types
	along    map[string]struct{}
	bar      map[string]struct{}
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
	for _, m := range matches {
		if err := archive.Walk(ctx, s.root, m.real, func(name string, info fs.FileInfo, err error) error {
			if err != nil {
				s.warnf("%s: %v", name, err)
				return nil
			}
			s.add(path.Join(m.name, strings.TrimPrefix(name, m.real)), name, info)
			return nil
		}); err != nil {
			return err
		}
	}
	if len(matches) == 0 {
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

// found is a name that a pattern matches, and where that really lies.
type found struct{ name, real string }

// glob is doublestar.FilepathGlob with WithNoFollow, within the root.
func (s *selection) glob(pattern string) (matches []found, err error) {
	if !hasMeta(pattern) {
		return s.match(nil, unescape(pattern), unescape(pattern)), nil
	}
	base, glob := doublestar.SplitPattern(pattern)
	real, through, err := s.place(base, true)
	if err != nil {
		s.note(through, err)
		return nil, nil
	}
	sub, err := fs.Sub(s.root.FS(), real)
	if err != nil {
		return nil, err
	}
	names, err := doublestar.Glob(sub, glob, doublestar.WithNoFollow())
	for _, name := range names {
		matches = s.match(matches, path.Join(base, name), path.Join(real, name))
	}
	if len(matches) > 0 {
		s.goAlong(through...)
	}
	return matches, err
}

// match takes in a name that a pattern matches, if it is there; at is the name
// less the links that are known.
func (s *selection) match(matches []found, name, at string) []found {
	real, through, err := s.place(at, false)
	if err != nil {
		s.note(through, err)
		return matches
	}
	info, err := s.root.Lstat(real)
	if err != nil {
		return matches
	}
	s.goAlong(through...)
	if info.Mode().Type() == fs.ModeSymlink {
		if target, links, err := s.place(real, true); err == nil && target != "." {
			s.goAlong(append(links, target)...)
		}
	}
	return append(matches, found{name, real})
}

// note bars the last of the links that led to an error if it leads out of the
// project.
func (s *selection) note(links []string, err error) {
	if errors.Is(err, errLeaves) && len(links) > 0 {
		s.bar[links[len(links)-1]] = struct{}{}
	}
}

func (s *selection) goAlong(names ...string) {
	for _, name := range names {
		s.along[name] = struct{}{}
	}
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

// add takes in what lies at real unless its name is excluded.
func (s *selection) add(name, real string, info fs.FileInfo) {
	if real == "." || s.excluded(name) {
		return
	}
	s.found[real] = info.Mode().Type()
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
