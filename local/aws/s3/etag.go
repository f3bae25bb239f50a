package s3

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// gofakes3 makes ETags of a hash's bytes, which leaves no room for the "-N" of
// a multipart upload. So such a hash carries N as four more bytes, and the
// responses and conditions that hold ETags are translated.

var (
	longETag = regexp.MustCompile(`^"?([0-9a-f]{32})([0-9a-f]{8})"?$`)
	partETag = regexp.MustCompile(`([0-9a-f]{32})-([0-9]{1,5})\b`)
)

// hashOf returns the bytes that gofakes3 makes etag of.
func hashOf(etag string) []byte {
	sum, parts, multipart := strings.Cut(etag, "-")
	raw, _ := hex.DecodeString(sum)
	if n, err := strconv.ParseUint(parts, 10, 32); multipart && err == nil {
		raw = binary.BigEndian.AppendUint32(raw, uint32(n))
	}
	return raw
}

// shortETag undoes hashOf in a header's value.
func shortETag(value string) string {
	m := longETag.FindStringSubmatch(value)
	if m == nil {
		return value
	}
	n, err := strconv.ParseUint(m[2], 16, 32)
	if err != nil {
		return value
	}
	return fmt.Sprintf("%q", m[1]+"-"+strconv.FormatUint(n, 10))
}

// lengthenConditions translates the ETags of a request's conditions.
func lengthenConditions(h http.Header) {
	for _, name := range []string{"If-Match", "If-None-Match", "X-Amz-Copy-Source-If-Match", "X-Amz-Copy-Source-If-None-Match"} {
		if v := h.Get(name); v != "" {
			h.Set(name, partETag.ReplaceAllStringFunc(v, func(etag string) string {
				return hex.EncodeToString(hashOf(etag))
			}))
		}
	}
}
