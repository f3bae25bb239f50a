package s3

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/rclone/gofakes3"
)

// maxKeys is the most keys of a page.
const maxKeys = 1000

type listedObject struct {
	Key          string
	LastModified string
	ETag         string
	Size         int64
	StorageClass string
	Owner        *owner `xml:",omitempty"`
}

type owner struct {
	ID string
}

type commonPrefix struct {
	Prefix string
}

// listing is the answer of both versions of ListObjects.
type listing struct {
	XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name                  string
	Prefix                string
	Marker                *string `xml:",omitempty"` // version 1
	NextMarker            string  `xml:",omitempty"`
	StartAfter            string  `xml:",omitempty"` // version 2
	ContinuationToken     string  `xml:",omitempty"`
	NextContinuationToken string  `xml:",omitempty"`
	KeyCount              *int    `xml:",omitempty"`
	MaxKeys               int
	Delimiter             string `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	IsTruncated           bool
	Contents              []listedObject
	CommonPrefixes        []commonPrefix
}

// listObjects answers ListObjects and ListObjectsV2. gofakes3 leaves out a
// KeyCount of 0 and matches prefixes with delimiters otherwise than S3 does.
func (s *Service) listObjects(w http.ResponseWriter, r *http.Request, bucket string) bool {
	b, err := s.store.bucket(bucket)
	if err != nil {
		writeError(w, r, failure(err, bucket, ""))
		return true
	}
	doc, err := b.listObjects(r.URL.Query(), s.opts.Account)
	if err != nil {
		writeError(w, r, err)
		return true
	}
	writeXML(w, http.StatusOK, doc)
	return true
}

func (b *bucket) listObjects(q url.Values, account string) (*listing, error) {
	doc := &listing{Name: b.name, Prefix: q.Get("prefix"), Delimiter: q.Get("delimiter"), EncodingType: q.Get("encoding-type"), MaxKeys: maxKeys}
	if doc.EncodingType != "" && doc.EncodingType != "url" {
		return nil, gofakes3.ErrorInvalidArgument("encoding-type", doc.EncodingType, "Invalid Encoding Method specified in Request")
	}
	if raw := q.Get("max-keys"); raw != "" {
		n, err := strconv.Atoi(raw)
		if err != nil || n < 0 {
			return nil, gofakes3.ErrorInvalidArgument("max-keys", raw, "Provided max-keys not an integer or within integer range")
		}
		doc.MaxKeys = min(n, maxKeys)
	}
	v2 := q.Get("list-type") == "2"
	marker, owned := q.Get("marker"), &owner{account}
	if v2 {
		doc.StartAfter, doc.ContinuationToken = q.Get("start-after"), q.Get("continuation-token")
		raw, err := base64.URLEncoding.DecodeString(doc.ContinuationToken)
		if err != nil {
			return nil, gofakes3.ErrorInvalidArgument("continuation-token", doc.ContinuationToken, "The continuation token provided is incorrect")
		}
		if marker = string(raw); marker == "" {
			marker = doc.StartAfter
		}
		if q.Get("fetch-owner") != "true" {
			owned = nil
		}
	} else {
		m := marker
		doc.Marker = &m
	}
	var p page
	if doc.MaxKeys > 0 {
		p = b.listPage(doc.Prefix, doc.Delimiter, marker, doc.MaxKeys)
	}
	for _, e := range p.entries {
		doc.Contents = append(doc.Contents, listedObject{e.key, e.modified.Format("2006-01-02T15:04:05.000Z"), `"` + e.etag + `"`, e.size, "STANDARD", owned})
	}
	for _, prefix := range p.prefixes {
		doc.CommonPrefixes = append(doc.CommonPrefixes, commonPrefix{prefix})
	}
	doc.IsTruncated = p.truncated
	switch {
	case v2:
		count := len(p.entries) + len(p.prefixes)
		doc.KeyCount = &count
		if p.truncated {
			doc.NextContinuationToken = base64.URLEncoding.EncodeToString([]byte(p.next))
		}
	case doc.Delimiter != "": // without one the last key is the next marker
		doc.NextMarker = p.next
	}
	if doc.EncodingType == "url" {
		doc.encode()
	}
	return doc, nil
}

// encode URL-encodes what can hold characters that XML cannot.
func (l *listing) encode() {
	for _, f := range []*string{&l.Prefix, &l.NextMarker, &l.StartAfter, &l.Delimiter} {
		*f = urlEncode(*f)
	}
	if l.Marker != nil {
		*l.Marker = urlEncode(*l.Marker)
	}
	for i := range l.Contents {
		l.Contents[i].Key = urlEncode(l.Contents[i].Key)
	}
	for i := range l.CommonPrefixes {
		l.CommonPrefixes[i].Prefix = urlEncode(l.CommonPrefixes[i].Prefix)
	}
}

// urlEncode encodes a key as S3 does in listings: a space is a plus, slashes
// stay.
func urlEncode(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "%2F", "/")
}

// isListing says whether a GET of a bucket lists its objects.
func isListing(q url.Values) bool {
	return !slices.ContainsFunc([]string{
		"acl", "analytics", "attributes", "intelligent-tiering", "inventory", "metrics",
		"object-lock", "policyStatus", "replication", "versions",
	}, q.Has)
}
