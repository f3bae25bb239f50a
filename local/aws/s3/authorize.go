package s3

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/rclone/gofakes3"
)

// Permission is an action on a resource that a request needs.
type Permission struct {
	Action   string // "s3:GetObject"
	Resource string // ARN, or "*"
}

// actions are the IAM actions of operations whose names differ, or that share
// one.
//
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
var actions = map[string]string{
	"ListBuckets":                        "ListAllMyBuckets",
	"HeadBucket":                         "ListBucket",
	"ListObjects":                        "ListBucket",
	"ListObjectsV2":                      "ListBucket",
	"ListObjectVersions":                 "ListBucketVersions",
	"ListMultipartUploads":               "ListBucketMultipartUploads",
	"ListParts":                          "ListMultipartUploadParts",
	"HeadObject":                         "GetObject",
	"PostObject":                         "PutObject",
	"CopyObject":                         "PutObject",
	"CreateMultipartUpload":              "PutObject",
	"UploadPart":                         "PutObject",
	"UploadPartCopy":                     "PutObject",
	"CompleteMultipartUpload":            "PutObject",
	"GetBucketLifecycleConfiguration":    "GetLifecycleConfiguration",
	"PutBucketLifecycleConfiguration":    "PutLifecycleConfiguration",
	"DeleteBucketLifecycleConfiguration": "PutLifecycleConfiguration",
	"GetBucketEncryption":                "GetEncryptionConfiguration",
	"PutBucketEncryption":                "PutEncryptionConfiguration",
	"DeleteBucketEncryption":             "PutEncryptionConfiguration",
	"GetPublicAccessBlock":               "GetBucketPublicAccessBlock",
	"PutPublicAccessBlock":               "PutBucketPublicAccessBlock",
	"DeletePublicAccessBlock":            "PutBucketPublicAccessBlock",
	"DeleteBucketTagging":                "PutBucketTagging",
	"DeleteBucketCors":                   "PutBucketCORS",
	"GetBucketNotificationConfiguration": "GetBucketNotification",
	"PutBucketNotificationConfiguration": "PutBucketNotification",
	"GetBucketAccelerateConfiguration":   "GetAccelerateConfiguration",
	"PutBucketAccelerateConfiguration":   "PutAccelerateConfiguration",
}

func arn(bucket, key string) string {
	if key == "" {
		return "arn:aws:s3:::" + bucket
	}
	return "arn:aws:s3:::" + bucket + "/" + key
}

// Permissions returns what a request needs. DeleteObjects needs a permission
// per key; see Authorize.
func Permissions(r *http.Request) []Permission {
	operation := Operation(r)
	action := operation
	if a, ok := actions[operation]; ok {
		action = a
	}
	bucket, key := Address(r)
	if bucket == "" {
		return []Permission{{"s3:" + action, "*"}}
	}
	list := []Permission{{"s3:" + action, arn(bucket, key)}}
	if source := r.Header.Get("X-Amz-Copy-Source"); source != "" {
		if path, err := url.PathUnescape(strings.TrimPrefix(source, "/")); err == nil {
			list = append(list, Permission{"s3:GetObject", "arn:aws:s3:::" + path})
		}
	}
	return list
}

// Authorize serves a request as far as allowed lets it; its error is the reason
// of an AccessDenied. A missing object is denied to whoever may not list the
// bucket, so that nobody learns what is there.
func (s *Service) Authorize(w http.ResponseWriter, r *http.Request, allowed func(Permission) error) {
	bucket, key := Address(r)
	operation := Operation(r)
	if operation == "DeleteObjects" {
		s.deleteObjects(w, r, bucket, allowed)
		return
	}
	for _, p := range Permissions(r) {
		if err := allowed(p); err != nil {
			WriteError(w, r, http.StatusForbidden, "AccessDenied", err.Error())
			return
		}
	}
	if operation == "GetObject" || operation == "HeadObject" {
		if err := allowed(Permission{"s3:ListBucket", arn(bucket, "")}); err != nil && !s.exists(bucket, key) {
			WriteError(w, r, http.StatusForbidden, "AccessDenied", err.Error())
			return
		}
	}
	s.ServeHTTP(w, r)
}

func (s *Service) exists(bucket, key string) bool {
	b, err := s.store.bucket(bucket)
	return err == nil && b.entry(key) != nil
}

// deleteObjects serves a DeleteObjects in which some keys are denied; one in
// which none is goes the usual way.
func (s *Service) deleteObjects(w http.ResponseWriter, r *http.Request, bucket string, allowed func(Permission) error) {
	type deleted struct{ Key string }
	type failed struct{ Key, Code, Message string }
	type document struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
		Deleted []deleted
		Error   []failed
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, gofakes3.MaxXMLBodySize))
	if err != nil {
		WriteError(w, r, http.StatusBadRequest, "MalformedXML", err.Error())
		return
	}
	var in struct {
		Quiet  bool
		Object []struct{ Key string }
	}
	if err := xml.Unmarshal(body, &in); err != nil {
		WriteError(w, r, http.StatusBadRequest, "MalformedXML", gofakes3.ErrMalformedXML.Message())
		return
	}
	var out document
	var free []string
	for _, o := range in.Object {
		if err := allowed(Permission{"s3:DeleteObject", arn(bucket, o.Key)}); err != nil {
			out.Error = append(out.Error, failed{o.Key, "AccessDenied", err.Error()})
		} else {
			free = append(free, o.Key)
		}
	}
	if len(out.Error) == 0 {
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.ServeHTTP(w, r)
		return
	}
	for _, key := range free {
		if err := s.Delete(r.Context(), bucket, key); err != nil {
			out.Error = append(out.Error, failed{key, "InternalError", err.Error()})
		} else if !in.Quiet {
			out.Deleted = append(out.Deleted, deleted{key})
		}
	}
	writeXML(w, http.StatusOK, out)
}
