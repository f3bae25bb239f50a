package s3

import (
	"encoding/xml"
	"net/http"
	"slices"
	"strings"

	"github.com/rclone/gofakes3"
)

// takeEncryption moves the encryption headers of a write into the call, after
// the bucket's default where the request says nothing.
func (s *Service) takeEncryption(c *call, r *http.Request, bucket string) error {
	c.encryption = map[string]string{encryptionHeader: "AES256"}
	if b, err := s.store.bucket(bucket); err == nil {
		if doc := b.document("encryption"); doc != "" {
			var conf struct {
				Rule []struct {
					Default struct {
						SSEAlgorithm   string
						KMSMasterKeyID string
					} `xml:"ApplyServerSideEncryptionByDefault"`
				}
			}
			if err := xml.Unmarshal([]byte(doc), &conf); err == nil && len(conf.Rule) > 0 {
				c.encryption = map[string]string{encryptionHeader: conf.Rule[0].Default.SSEAlgorithm}
				if id := conf.Rule[0].Default.KMSMasterKeyID; id != "" {
					c.encryption[encryptionHeader+"-Aws-Kms-Key-Id"] = id
				}
			}
		}
	}
	algorithm := r.Header.Get(encryptionHeader)
	if algorithm == "" {
		return nil
	}
	if !slices.Contains([]string{"AES256", "aws:kms", "aws:kms:dsse"}, algorithm) {
		return gofakes3.ErrorInvalidArgument(strings.ToLower(encryptionHeader), algorithm, "The encryption method specified is not supported")
	}
	c.encryption = map[string]string{encryptionHeader: algorithm}
	r.Header.Del(encryptionHeader)
	for _, suffix := range []string{"-Aws-Kms-Key-Id", "-Bucket-Key-Enabled", "-Context"} {
		if v := r.Header.Get(encryptionHeader + suffix); v != "" {
			if suffix != "-Context" {
				c.encryption[encryptionHeader+suffix] = v
			}
			r.Header.Del(encryptionHeader + suffix)
		}
	}
	return nil
}

// encrypt records the encryption of a write in the object's headers and in the
// answer.
func (c *call) encrypt(headers map[string]string) {
	for name, value := range c.encryption {
		headers[name] = value
		c.extra.Set(name, value)
	}
}
