package s3

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rclone/gofakes3"
)

// pending is an upload in a listing.
type pending struct {
	upload
	id gofakes3.UploadID
}

// uploads lists the uploads in progress by key and time.
func (b *bucket) uploads() ([]pending, error) {
	entries, err := os.ReadDir(filepath.Join(b.dir, "uploads"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []pending
	for _, e := range entries {
		id := gofakes3.UploadID(e.Name())
		u, err := b.upload(id)
		if errors.Is(err, gofakes3.ErrNoSuchUpload) { // ended meanwhile, or never fully begun
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, pending{*u, id})
	}
	slices.SortFunc(all, func(a, b pending) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), a.Initiated.Compare(b.Initiated))
	})
	return all, nil
}

// parts returns the parts of an upload by part number.
func (b *bucket) parts(id gofakes3.UploadID) (map[string]*metadata, error) {
	entries, err := os.ReadDir(b.uploadDir(id))
	if err != nil {
		return nil, err
	}
	all := map[string]*metadata{}
	for _, e := range entries {
		number, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		o, err := openObject(filepath.Join(b.uploadDir(id), e.Name()))
		if err != nil {
			return nil, err
		}
		all[strconv.Itoa(number)] = o.metadata
		if err := o.file.Close(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// listUploads answers ListMultipartUploads; gofakes3 answers NoSuchUpload where
// there is none.
func (s *Service) listUploads(w http.ResponseWriter, r *http.Request, bucket string) bool {
	type item struct {
		Key          string
		UploadID     string `xml:"UploadId"`
		Initiated    string
		StorageClass string
	}
	type document struct {
		XMLName            xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
		Bucket             string
		KeyMarker          string
		UploadIDMarker     string `xml:"UploadIdMarker"`
		NextKeyMarker      string `xml:",omitempty"`
		NextUploadIDMarker string `xml:"NextUploadIdMarker,omitempty"`
		Prefix             string
		MaxUploads         int
		IsTruncated        bool
		Upload             []item
	}
	b, err := s.store.bucket(bucket)
	if err != nil {
		writeError(w, r, failure(err, bucket, ""))
		return true
	}
	all, err := b.uploads()
	if err != nil {
		writeError(w, r, fmt.Errorf("list the uploads of %q: %w", bucket, err))
		return true
	}
	q := r.URL.Query()
	doc := document{Bucket: bucket, Prefix: q.Get("prefix"), KeyMarker: q.Get("key-marker"), UploadIDMarker: q.Get("upload-id-marker"), MaxUploads: 1000}
	if n, err := strconv.Atoi(q.Get("max-uploads")); err == nil && n > 0 && n < doc.MaxUploads {
		doc.MaxUploads = n
	}
	passed := doc.UploadIDMarker == "" // the uploads of the marker's key up to the marker are behind us
	for _, u := range all {
		if !strings.HasPrefix(u.Key, doc.Prefix) || u.Key < doc.KeyMarker {
			continue
		}
		if doc.KeyMarker != "" && u.Key == doc.KeyMarker {
			if doc.UploadIDMarker == "" || !passed {
				passed = passed || string(u.id) == doc.UploadIDMarker
				continue
			}
		}
		if len(doc.Upload) == doc.MaxUploads {
			doc.IsTruncated = true
			last := doc.Upload[len(doc.Upload)-1]
			doc.NextKeyMarker, doc.NextUploadIDMarker = last.Key, last.UploadID
			break
		}
		doc.Upload = append(doc.Upload, item{Key: u.Key, UploadID: string(u.id), Initiated: u.Initiated.Format(time.RFC3339), StorageClass: "STANDARD"})
	}
	writeXML(w, http.StatusOK, doc)
	return true
}
