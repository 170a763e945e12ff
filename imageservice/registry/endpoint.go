package registry

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/berth-cri/berth/imageservice/reference"
)

const (
	// defaultDialTimeout is containerd's.
	defaultDialTimeout = 30 * time.Second
	// maxCertificates bounds a file of certificates or keys.
	maxCertificates = 4 << 20
	dockerHubServer = "registry-1.docker.io"
)

// endpoint is one place where the content of a registry may be had.
type endpoint struct {
	url     url.URL // with the root of the API as its path: https://registry-1.docker.io/v2
	mirror  bool    // not the image's own registry
	resolve bool
	pull    bool
	header  http.Header
	client  *http.Client
}

// String is how logs and errors call it.
func (e *endpoint) String() string {
	s := e.url.Scheme + "://" + e.url.Host + strings.TrimSuffix(e.url.Path, "/v2")
	if e.mirror {
		return "mirror " + s
	}
	return s
}

// newEndpoint applies the defaults for the registry and reads the certificates.
func newEndpoint(registry string, c endpointConfig) (*endpoint, error) {
	if c.url == nil {
		c.url = defaultURL(registry)
		// containerd does not verify https on the loopback: no authority
		// issues certificates for it.
		if c.url.Scheme == "https" && isLoopback(registry) && !c.skipSet {
			c.skipVerify = true
		}
	}
	conf, err := c.tls()
	if err != nil {
		return nil, err
	}
	dialTimeout := c.dialTimeout
	if dialTimeout == 0 {
		dialTimeout = defaultDialTimeout
	}
	e := &endpoint{url: *c.url, resolve: c.resolve, pull: c.pull, header: c.header}
	e.mirror = !sameRegistry(c.url.Host, registry)
	e.client = &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:     conf,
			TLSHandshakeTimeout: 10 * time.Second,
			IdleConnTimeout:     30 * time.Second,
			MaxIdleConnsPerHost: 8,
			ForceAttemptHTTP2:   true,
			// Bytes must arrive as they are stored: digests and ranges are of those.
			DisableCompression: true,
		},
		CheckRedirect: e.checkRedirect,
	}
	return e, nil
}

// checkRedirect keeps credentials and configured headers with the origin that
// they are for. net/http removes Authorization only when the host's name
// changes, and headers that it does not know never.
func (e *endpoint) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return fmt.Errorf("stopped after %d redirects", len(via))
	}
	if sameOrigin(req.URL, via[0].URL) {
		return nil
	}
	req.Header.Del("Authorization")
	for name := range e.header {
		req.Header.Del(name)
	}
	return nil
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && hostPort(a) == hostPort(b)
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return strings.ToLower(u.Hostname()) + ":" + port
}

func (c endpointConfig) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.skipVerify}
	if len(c.ca) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		for _, p := range c.ca {
			pem, err := readLimited(p, maxCertificates)
			if err != nil {
				return nil, keyError{"ca", err}
			}
			if !pool.AppendCertsFromPEM(pem) {
				return nil, keyError{"ca", fmt.Errorf("%s holds no certificate in PEM form", p)}
			}
		}
		conf.RootCAs = pool
	}
	for _, p := range c.clientPairs {
		cert, err := readLimited(p[0], maxCertificates)
		if err != nil {
			return nil, keyError{"client", err}
		}
		key := cert
		if p[1] != "" {
			if key, err = readLimited(p[1], maxCertificates); err != nil {
				return nil, keyError{"client", err}
			}
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, keyError{"client", fmt.Errorf("%s: %w", p[0], err)}
		}
		conf.Certificates = append(conf.Certificates, pair)
	}
	return conf, nil
}

// defaultURL is where a registry is when nobody configured it.
func defaultURL(registry string) *url.URL {
	u := &url.URL{Scheme: "https", Host: registry, Path: "/v2"}
	if registry == reference.DockerHub {
		u.Host = dockerHubServer
	}
	if isLoopback(registry) {
		if port := u.Port(); port != "" && port != "443" {
			u.Scheme = "http"
		}
	}
	return u
}

func isLoopback(registry string) bool {
	host := (&url.URL{Host: registry}).Hostname()
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// sameRegistry compares names of registries; Docker Hub has several.
func sameRegistry(a, b string) bool { return canonicalHost(a) == canonicalHost(b) }

func canonicalHost(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, ":443"))
	switch host {
	case "index.docker.io", dockerHubServer, "registry.hub.docker.com":
		return reference.DockerHub
	}
	return host
}

func readLimited(file string, limit int64) ([]byte, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > limit {
		return nil, fmt.Errorf("%s: not a regular file of at most %d bytes", file, limit)
	}
	return os.ReadFile(file)
}
