package s3

import (
	"net/http"
	"net/url"
	"strings"
)

// subresources name the operations on a bucket's or object's sub-resource,
// less the verb ("Get", "Put", "Delete"); with an object "Object" stands where
// "Bucket" does.
var subresources = map[string]string{
	"accelerate":        "BucketAccelerateConfiguration",
	"acl":               "BucketAcl",
	"cors":              "BucketCors",
	"encryption":        "BucketEncryption",
	"lifecycle":         "BucketLifecycleConfiguration",
	"location":          "BucketLocation",
	"logging":           "BucketLogging",
	"notification":      "BucketNotificationConfiguration",
	"ownershipControls": "BucketOwnershipControls",
	"policy":            "BucketPolicy",
	"policyStatus":      "BucketPolicyStatus",
	"publicAccessBlock": "PublicAccessBlock",
	"requestPayment":    "BucketRequestPayment",
	"tagging":           "BucketTagging",
	"versioning":        "BucketVersioning",
	"website":           "BucketWebsite",
	"attributes":        "BucketAttributes",
}

var verbs = map[string]string{
	http.MethodGet: "Get", http.MethodHead: "Head", http.MethodPut: "Put",
	http.MethodPost: "Post", http.MethodDelete: "Delete",
}

// Operation names the operation of a request as the API reference does:
// "PutObject", "ListObjectsV2", "CreateMultipartUpload".
func Operation(r *http.Request) string {
	bucket, key := Address(r)
	q := r.URL.Query()
	verb := verbs[r.Method]
	for sub, name := range subresources {
		if !q.Has(sub) {
			continue
		}
		if key != "" {
			name = strings.Replace(name, "Bucket", "Object", 1)
		}
		return verb + name
	}
	switch {
	case bucket == "":
		return "ListBuckets"
	case key == "":
		return bucketOperation(r.Method, q)
	}
	return objectOperation(r, q)
}

func bucketOperation(method string, q url.Values) string {
	switch {
	case method == http.MethodGet && q.Has("uploads"):
		return "ListMultipartUploads"
	case method == http.MethodGet && q.Has("versions"):
		return "ListObjectVersions"
	case method == http.MethodGet && q.Get("list-type") == "2":
		return "ListObjectsV2"
	case method == http.MethodGet:
		return "ListObjects"
	case method == http.MethodPost && q.Has("delete"):
		return "DeleteObjects"
	case method == http.MethodPut:
		return "CreateBucket"
	case method == http.MethodPost:
		return "PostObject"
	}
	return verbs[method] + "Bucket"
}

func objectOperation(r *http.Request, q url.Values) string {
	copied := r.Header.Get("X-Amz-Copy-Source") != ""
	switch {
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "CreateMultipartUpload"
	case r.Method == http.MethodPost && q.Has("uploadId"):
		return "CompleteMultipartUpload"
	case r.Method == http.MethodPut && q.Has("uploadId") && copied:
		return "UploadPartCopy"
	case r.Method == http.MethodPut && q.Has("uploadId"):
		return "UploadPart"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "AbortMultipartUpload"
	case r.Method == http.MethodGet && q.Has("uploadId"):
		return "ListParts"
	case r.Method == http.MethodPut && copied:
		return "CopyObject"
	}
	return verbs[r.Method] + "Object"
}
