// Package archive packs directory trees into a tar compressed with zstd and
// unpacks such archives, both streaming.
//
// An archive is hostile until proven otherwise, in both directions: Unpack
// writes through os.Root, and refuses absolute names, "..", links that leave
// their tree, devices and the like, and more bytes or files than it was told to
// expect. Pack leaves out what Unpack would refuse, and says so.
package archive

import (
	"path"
	"strings"
)

// The trees of the archives in the exchange.
const (
	ProjectTree = "project" // the project directory
	TmpTree     = "tmp"     // its .tmp sibling
)

// Stats counts what an archive holds, before compression.
type Stats struct {
	Files int // entries: files, directories and links
	Bytes int64
}

// linkStays says whether a symbolic link called name, in a tree that lies at
// the absolute path base, points into the tree. The answer holds whatever other
// links are in the tree, so long as each of them stays as well: ".." is taken
// only at the target's beginning, where it climbs real directories.
func linkStays(base, name, target string) bool {
	if target == "" || strings.ContainsRune(target, 0) {
		return false
	}
	depth := strings.Count(path.Clean(name), "/")
	if path.IsAbs(target) {
		rest, ok := strings.CutPrefix(target, strings.TrimSuffix(base, "/")+"/")
		if base == "" || !ok {
			return base != "" && path.Clean(target) == path.Clean(base)
		}
		target, depth = rest, 0
	}
	for down := false; target != ""; {
		var part string
		part, target, _ = strings.Cut(target, "/")
		switch part {
		case "", ".":
		case "..":
			if depth--; down || depth < 0 {
				return false
			}
		default:
			down = true
		}
	}
	return true
}
