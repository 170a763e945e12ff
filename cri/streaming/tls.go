package streaming

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Certificate makes the TLS configuration of a server: with the certificate of a
// file and its key, which are read again when they have changed, or without
// files with one that it makes for the address.
func Certificate(certFile, keyFile string, address netip.Addr) (*tls.Config, error) {
	if certFile == "" {
		cert, err := selfSigned(address)
		if err != nil {
			return nil, fmt.Errorf("make a certificate: %w", err)
		}
		return &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}, nil
	}
	f := &certFiles{cert: certFile, key: keyFile}
	if _, err := f.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{GetCertificate: f.get, MinVersion: tls.VersionTLS12}, nil
}

// certFiles is a certificate that is replaced now and then.
type certFiles struct {
	cert, key string

	mu     sync.Mutex // guards what follows
	loaded *tls.Certificate
	times  [2]time.Time // of the files that it was loaded from
}

// get is called at each handshake. Of files that are just being replaced, and do
// not fit each other, it takes no notice.
func (f *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var times [2]time.Time
	for i, path := range []string{f.cert, f.key} {
		info, err := os.Stat(path)
		if err == nil {
			times[i] = info.ModTime()
		}
	}
	if f.loaded != nil && times == f.times {
		return f.loaded, nil
	}
	cert, err := tls.LoadX509KeyPair(f.cert, f.key)
	switch {
	case err == nil:
		f.loaded, f.times = &cert, times
	case f.loaded == nil:
		return nil, fmt.Errorf("load certificate for streams: %w", err)
	}
	return f.loaded, nil
}

func selfSigned(address netip.Addr) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: "berth"},
		NotBefore:    now.Add(-time.Hour), // clocks differ
		NotAfter:     now.AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{address.AsSlice()},
	}
	if host, err := os.Hostname(); err == nil {
		template.DNSNames = append(template.DNSNames, host)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
