package s3

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/rclone/gofakes3"
)

const (
	xmlns            = "http://s3.amazonaws.com/doc/2006-03-01/"
	encryptionHeader = "X-Amz-Server-Side-Encryption"
	maxDocument      = 1 << 20
)

// documents are the sub-resources of buckets that are stored as they come and
// answered as they were stored, with the root element of the document (none:
// JSON) and what a bucket without one answers (nothing: gofakes3's "not
// configured" error).
var documents = map[string]struct{ root, fallback string }{
	"accelerate":        {"AccelerateConfiguration", `<AccelerateConfiguration xmlns="` + xmlns + `"/>`},
	"cors":              {"CORSConfiguration", ""},
	"encryption":        {"ServerSideEncryptionConfiguration", `<ServerSideEncryptionConfiguration xmlns="` + xmlns + `"><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>`},
	"lifecycle":         {"LifecycleConfiguration", ""},
	"logging":           {"BucketLoggingStatus", `<BucketLoggingStatus xmlns="` + xmlns + `"/>`},
	"notification":      {"NotificationConfiguration", `<NotificationConfiguration xmlns="` + xmlns + `"/>`},
	"ownershipControls": {"OwnershipControls", `<OwnershipControls xmlns="` + xmlns + `"><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>`},
	"policy":            {"", ""},
	"publicAccessBlock": {"PublicAccessBlockConfiguration", `<PublicAccessBlockConfiguration xmlns="` + xmlns + `"><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>`},
	"requestPayment":    {"RequestPaymentConfiguration", `<RequestPaymentConfiguration xmlns="` + xmlns + `"><Payer>BucketOwner</Payer></RequestPaymentConfiguration>`},
	"tagging":           {"Tagging", ""},
	"versioning":        {"VersioningConfiguration", `<VersioningConfiguration xmlns="` + xmlns + `"/>`},
	"website":           {"WebsiteConfiguration", ""},
}

// removed is what a deleted document leaves behind where that is not the
// fallback: encryption and public access block go with an error afterwards.
const removed = "-"

var (
	errAccessDenied = gofakes3.ErrorMessage("AccessDenied", "Access Denied")
	errExpired      = gofakes3.ErrorMessage("AccessDenied", "Request has expired")
)

// statuses of the codes that gofakes3 does not know.
var statuses = map[gofakes3.ErrorCode]int{
	"AccessDenied":                       http.StatusForbidden,
	"BucketAlreadyOwnedByYou":            http.StatusConflict,
	"IllegalLocationConstraintException": http.StatusBadRequest,
	"InvalidLocationConstraint":          http.StatusBadRequest,
	"MalformedPolicy":                    http.StatusBadRequest,
	"EntityTooSmall":                     http.StatusBadRequest,
}

// writeError answers an error before gofakes3 has seen the request.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	code, message := gofakes3.ErrInternal, err.Error()
	var coded interface{ ErrorCode() gofakes3.ErrorCode }
	if errors.As(err, &coded) {
		code = coded.ErrorCode()
	}
	var full *gofakes3.ErrorResponse
	if errors.As(err, &full) {
		message = full.Message
	}
	status := statuses[code]
	if status == 0 {
		status = code.Status()
	}
	WriteError(w, r, status, string(code), message)
}

// WriteError answers with an S3 error document; a HEAD gets none.
func WriteError(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	type document struct {
		XMLName  xml.Name `xml:"Error"`
		Code     string
		Message  string
		Resource string
	}
	refuseBody(w, r)
	if r.Method == http.MethodHead {
		w.WriteHeader(status)
		return
	}
	writeXML(w, status, document{Code: code, Message: message, Resource: r.URL.Path})
}

func writeXML(w http.ResponseWriter, status int, doc any) {
	b, err := xml.Marshal(doc)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = w.Write(append([]byte(xml.Header), b...))
}

func objectURL(bucket, key, query string) *url.URL {
	return &url.URL{Path: "/" + bucket + "/" + key, RawQuery: query}
}

// checkExpiry refuses a presigned URL whose time is over. Its signature cannot
// be checked: any access key is accepted, so nobody knows the secret.
func checkExpiry(r *http.Request, now time.Time) error {
	q := r.URL.Query()
	if q.Has("AWSAccessKeyId") && q.Has("Expires") { // signature version 2, boto3's default
		end, err := strconv.ParseInt(q.Get("Expires"), 10, 64)
		if err != nil {
			return gofakes3.ErrorMessage("AccessDenied", "Invalid date (should be seconds since epoch): "+q.Get("Expires"))
		}
		if now.Unix() > end {
			return errExpired
		}
	}
	if !q.Has("X-Amz-Signature") {
		return nil
	}
	signed, err := time.Parse("20060102T150405Z", q.Get("X-Amz-Date"))
	seconds, err2 := strconv.ParseInt(q.Get("X-Amz-Expires"), 10, 64)
	if err != nil || err2 != nil || seconds < 1 || seconds > 604800 {
		return gofakes3.ErrorMessage("AccessDenied", "Query-string authentication requires X-Amz-Date and X-Amz-Expires between 1 and 604800 seconds")
	}
	if now.After(signed.Add(time.Duration(seconds) * time.Second)) {
		return errExpired
	}
	return nil
}

// serveBucket answers the operations on buckets that gofakes3 lacks, and says
// whether the request was one.
func (s *Service) serveBucket(w *response, r *http.Request, bucket, key string) bool {
	if bucket == "" {
		return false
	}
	q := r.URL.Query()
	if key != "" {
		return false
	}
	for sub, kind := range documents {
		if q.Has(sub) {
			return s.serveDocument(w, r, bucket, sub, kind.root, kind.fallback)
		}
	}
	switch {
	case r.Method == http.MethodPut && len(q) == 0 || r.Method == http.MethodPut && q.Has("x-id") && len(q) == 1:
		if err := s.createBucket(r, bucket); err != nil {
			writeError(w, r, err)
			return true
		}
		w.Header().Set("Location", "/"+bucket)
		w.WriteHeader(http.StatusOK)
		return true
	case r.Method == http.MethodGet && q.Has("location"):
		return s.location(w, r, bucket)
	case r.Method == http.MethodGet && q.Has("uploads"):
		return s.listUploads(w, r, bucket)
	case r.Method == http.MethodGet && isListing(q):
		return s.listObjects(w, r, bucket)
	}
	return false
}

func (s *Service) createBucket(r *http.Request, name string) error {
	if err := gofakes3.ValidateBucketName(name); err != nil {
		return gofakes3.ErrorMessage(gofakes3.ErrInvalidBucketName, "The specified bucket is not valid.")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxDocument))
	if err != nil {
		return err
	}
	var conf struct {
		LocationConstraint string
		Location           struct{ Name string }
	}
	if len(body) > 0 {
		if err := xml.Unmarshal(body, &conf); err != nil {
			return gofakes3.ErrMalformedXML
		}
	}
	err = s.store.create(name, conf.LocationConstraint)
	if errors.Is(err, errBucketExists) {
		return gofakes3.ErrorMessage("BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded and you already own it.")
	}
	return err
}

func (s *Service) location(w http.ResponseWriter, r *http.Request, bucket string) bool {
	type document struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
		Region  string   `xml:",chardata"`
	}
	b, err := s.store.bucket(bucket)
	if err != nil {
		writeError(w, r, failure(err, bucket, ""))
		return true
	}
	region := b.info.Region
	if region == "" && s.opts.Region != "us-east-1" { // us-east-1 is told as an empty constraint
		region = s.opts.Region
	}
	writeXML(w, http.StatusOK, document{Region: region})
	return true
}

func (s *Service) serveDocument(w http.ResponseWriter, r *http.Request, bucket, sub, root, fallback string) bool {
	b, err := s.store.bucket(bucket)
	if err != nil {
		writeError(w, r, failure(err, bucket, ""))
		return true
	}
	switch r.Method {
	case http.MethodGet:
		doc := b.document(sub)
		if doc == "" {
			doc = fallback
		}
		if doc == "" || doc == removed {
			return false // gofakes3 says that nothing is configured
		}
		w.Header().Set("Content-Type", "application/xml")
		if root == "" {
			w.Header().Set("Content-Type", "application/json")
		}
		_, _ = io.WriteString(w, doc)
	case http.MethodPut:
		body, err := io.ReadAll(io.LimitReader(r.Body, maxDocument))
		if err == nil {
			err = checkDocument(body, root)
		}
		if err == nil {
			err = b.setDocument(sub, string(body))
		}
		if err != nil {
			writeError(w, r, err)
			return true
		}
		status := http.StatusOK
		if sub == "policy" || sub == "tagging" {
			status = http.StatusNoContent
		}
		w.WriteHeader(status)
	case http.MethodDelete:
		doc := ""
		if sub == "publicAccessBlock" || sub == "ownershipControls" {
			doc = removed
		}
		if err := b.setDocument(sub, doc); err != nil {
			writeError(w, r, err)
			return true
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		return false
	}
	return true
}

// checkDocument checks that a document is well-formed and has the right root.
func checkDocument(body []byte, root string) error {
	if root == "" {
		if !json.Valid(body) {
			return gofakes3.ErrorMessage("MalformedPolicy", "Policies must be valid JSON and the first byte must be '{'")
		}
		return nil
	}
	var doc struct {
		XMLName xml.Name
	}
	if err := xml.Unmarshal(body, &doc); err != nil || doc.XMLName.Local != root {
		return gofakes3.ErrorMessage(gofakes3.ErrMalformedXML, gofakes3.ErrMalformedXML.Message())
	}
	return nil
}
