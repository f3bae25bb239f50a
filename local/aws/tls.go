package aws

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	caFile    = "ca.pem"
	caKeyFile = "ca-key.pem"
	year      = 365 * 24 * time.Hour
)

// certificate returns the server's certificate: that of the options, or one
// that an authority of our own signs. The authority lies in the data directory
// as ca.pem and stays the same over restarts.
func (s *Server) certificate() (tls.Certificate, error) {
	if s.opts.TLSCert != "" {
		c, err := tls.LoadX509KeyPair(s.opts.TLSCert, s.opts.TLSKey)
		if err != nil {
			return c, fmt.Errorf("load the TLS certificate: %w", err)
		}
		return c, nil
	}
	if err := os.MkdirAll(s.opts.Data, 0o700); err != nil {
		return tls.Certificate{}, fmt.Errorf("make the data directory: %w", err)
	}
	ca, err := authority(s.opts.Data)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the certificate authority in %q: %w", s.opts.Data, err)
	}
	s.CABundle = filepath.Join(s.opts.Data, caFile)
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "local AWS"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "*.localhost", "*.s3.localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if host, _, err := net.SplitHostPort(s.opts.Listen); err == nil {
		if ip := net.ParseIP(host); ip != nil && !ip.IsLoopback() && !ip.IsUnspecified() {
			template.IPAddresses = append(template.IPAddresses, ip)
		}
	}
	c, err := sign(template, &ca)
	if err != nil {
		return c, fmt.Errorf("make the TLS certificate: %w", err)
	}
	c.Certificate = append(c.Certificate, ca.Certificate...)
	return c, nil
}

// authority loads or makes the certificate authority of a data directory.
func authority(dir string) (tls.Certificate, error) {
	certPath, keyPath := filepath.Join(dir, caFile), filepath.Join(dir, caKeyFile)
	ca, err := tls.LoadX509KeyPair(certPath, keyPath)
	if err == nil && time.Until(ca.Leaf.NotAfter) > 30*24*time.Hour {
		return ca, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ca, err
	}
	ca, err = sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: "local AWS authority"},
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}, nil)
	if err != nil {
		return ca, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(ca.PrivateKey)
	if err != nil {
		return ca, err
	}
	if err := os.WriteFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600); err != nil {
		return ca, err
	}
	return ca, os.WriteFile(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate[0]}), 0o644)
}

// sign makes a key and a certificate for it, signed by ca or by itself.
func sign(template *x509.Certificate, ca *tls.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(year)
	parent, signer := template, any(key)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}
