package s3

import "strings"

// page is one page of a listing.
type page struct {
	entries   []entry
	prefixes  []string
	truncated bool
	next      string // the last key or common prefix of a truncated page
}

// listPage lists the keys that start with prefix and lie after marker, at most
// limit of them. Keys that hold delimiter after the prefix are rolled up into
// one common prefix, which counts as one key; a marker that is a common prefix
// lies after all keys that it stands for.
func (b *bucket) listPage(prefix, delimiter, marker string, limit int) page {
	var p page
	from, after := prefix, ""
	if marker >= prefix {
		from, after = marker, marker
		if delimiter != "" && strings.HasPrefix(marker, prefix) && strings.HasSuffix(marker, delimiter) &&
			strings.Index(marker[len(prefix):], delimiter) == len(marker)-len(prefix)-len(delimiter) {
			from, after = successor(marker), ""
		}
	}
	for from != "" || prefix == "" {
		skipTo := ""
		done := true
		b.keys.Ascend(entry{key: from}, func(e entry) bool {
			if !strings.HasPrefix(e.key, prefix) {
				return e.key < prefix
			}
			if after != "" && e.key <= after {
				return true
			}
			if len(p.entries)+len(p.prefixes) == limit {
				p.truncated = true
				return false
			}
			if i := strings.Index(e.key[len(prefix):], delimiter); delimiter != "" && i >= 0 {
				common := e.key[:len(prefix)+i+len(delimiter)]
				p.prefixes = append(p.prefixes, common)
				p.next, skipTo, done = common, successor(common), false
				return false
			}
			p.entries = append(p.entries, e)
			p.next = e.key
			return true
		})
		if done || skipTo == "" {
			break
		}
		from, after = skipTo, ""
	}
	if !p.truncated {
		p.next = ""
	}
	return p
}

// successor returns the smallest string that is greater than every string that
// starts with s; "" when there is none.
func successor(s string) string {
	raw := []byte(s)
	for i := len(raw) - 1; i >= 0; i-- {
		if raw[i] < 0xff {
			raw[i]++
			return string(raw[:i+1])
		}
	}
	return ""
}
