package s3

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rclone/gofakes3"
)

const (
	xmlns            = "http://s3.amazonaws.com/doc/2006-03-01/"
	encryptionHeader = "X-Amz-Server-Side-Encryption"
	maxDocument      = 1 << 20
)

// document is a kind of sub-resource of buckets. Documents are stored as they
// come, once their root element (none: JSON) and the one that it needs (none:
// nothing) are there, and answered as they were stored. A bucket that has none
// answers the fallback, else the error.
type document struct {
	root, needs    string
	fallback       string
	code, sentence string
}

var documents = map[string]document{
	"accelerate":        {root: "AccelerateConfiguration", fallback: `<AccelerateConfiguration xmlns="` + xmlns + `"/>`},
	"cors":              {"CORSConfiguration", "CORSRule", "", "NoSuchCORSConfiguration", "The CORS configuration does not exist"},
	"encryption":        {"ServerSideEncryptionConfiguration", "Rule", `<ServerSideEncryptionConfiguration xmlns="` + xmlns + `"><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>`, "", ""},
	"lifecycle":         {"LifecycleConfiguration", "Rule", "", "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"},
	"logging":           {root: "BucketLoggingStatus", fallback: `<BucketLoggingStatus xmlns="` + xmlns + `"/>`},
	"notification":      {root: "NotificationConfiguration", fallback: `<NotificationConfiguration xmlns="` + xmlns + `"/>`},
	"ownershipControls": {"OwnershipControls", "Rule", `<OwnershipControls xmlns="` + xmlns + `"><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>`, "OwnershipControlsNotFoundError", "The bucket ownership controls were not found"},
	"policy":            {"", "Statement", "", "NoSuchBucketPolicy", "The bucket policy does not exist"},
	"publicAccessBlock": {"PublicAccessBlockConfiguration", "", `<PublicAccessBlockConfiguration xmlns="` + xmlns + `"><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>`, "NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found"},
	"requestPayment":    {"RequestPaymentConfiguration", "Payer", `<RequestPaymentConfiguration xmlns="` + xmlns + `"><Payer>BucketOwner</Payer></RequestPaymentConfiguration>`, "", ""},
	"tagging":           {"Tagging", "TagSet", "", "NoSuchTagSet", "The TagSet does not exist"},
	"versioning":        {"VersioningConfiguration", "", `<VersioningConfiguration xmlns="` + xmlns + `"/>`, "", ""},
	"website":           {"WebsiteConfiguration", "", "", "NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration"},
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
	message = strings.TrimPrefix(message, string(code)+": ")
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
			return s.serveDocument(w, r, bucket, sub, kind)
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

func (s *Service) serveDocument(w http.ResponseWriter, r *http.Request, bucket, sub string, kind document) bool {
	b, err := s.store.bucket(bucket)
	if err != nil {
		writeError(w, r, failure(err, bucket, ""))
		return true
	}
	switch r.Method {
	case http.MethodGet:
		doc := b.document(sub)
		if doc == "" {
			doc = kind.fallback
		}
		if doc == "" || doc == removed {
			WriteError(w, r, http.StatusNotFound, kind.code, kind.sentence)
			return true
		}
		w.Header().Set("Content-Type", "application/xml")
		if kind.root == "" {
			w.Header().Set("Content-Type", "application/json")
		}
		_, _ = io.WriteString(w, doc)
	case http.MethodPut:
		body, err := io.ReadAll(io.LimitReader(r.Body, maxDocument))
		if err == nil {
			err = checkDocument(body, kind)
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

// checkDocument checks that a document is well-formed, has the right root, and
// in it what the kind needs.
func checkDocument(body []byte, kind document) error {
	if kind.root == "" {
		var members map[string]json.RawMessage
		switch err := json.Unmarshal(body, &members); {
		case err != nil:
			return gofakes3.ErrorMessage("MalformedPolicy", "Policies must be valid JSON and the first byte must be '{'")
		case members[kind.needs] == nil:
			return gofakes3.ErrorMessage("MalformedPolicy", "Missing required field "+kind.needs)
		}
		return nil
	}
	var doc struct {
		XMLName  xml.Name
		Children []struct{ XMLName xml.Name } `xml:",any"`
	}
	err := xml.Unmarshal(body, &doc)
	found := kind.needs == ""
	for _, child := range doc.Children {
		found = found || child.XMLName.Local == kind.needs
	}
	if err != nil || doc.XMLName.Local != kind.root || !found {
		return gofakes3.ErrorMessage(gofakes3.ErrMalformedXML, malformed)
	}
	return nil
}

const malformed = "The XML you provided was not well-formed or did not validate against our published schema"
