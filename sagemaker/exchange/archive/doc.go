// Package archive packs directory trees into a tar compressed with zstd and
// unpacks such archives, both streaming.
//
// An archive is hostile until proven otherwise, in both directions: Unpack
// writes through os.Root, and refuses absolute names, "..", hard links, devices
// and the like, and more bytes or files than it was told to expect. Pack leaves
// out what Unpack would refuse, and says so.
//
// A symbolic link is data: it may point anywhere, as the python3 of a virtual
// environment does. But nothing passes through one: a link that is in the way of
// a directory is replaced, and an archive that puts an entry below a link of its
// own is refused.
package archive

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
