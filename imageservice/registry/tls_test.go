package registry

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cri/berth/imageservice/registry/registrytest"
	"github.com/containerd/errdefs"
)

func TestTLS(t *testing.T) {
	srv := registrytest.StartTLS(t)
	srv.Push(t, "a/b:1", registrytest.Image(t))
	plain := registrytest.Start(t)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	for name, c := range map[string]struct {
		dir, file, content string
		kind               error
		text               string
	}{
		"an unknown authority":   {"_default", "hosts.toml", fmt.Sprintf("server = %q", srv.URL), errdefs.ErrFailedPrecondition, "set ca or skip_verify"},
		"a known authority":      {"_default", "hosts.toml", fmt.Sprintf("server = %q\nca = \"ca.crt\"", srv.URL), nil, ""},
		"no verification":        {"_default", "hosts.toml", fmt.Sprintf("server = %q\nskip_verify = true", srv.URL), nil, ""},
		"plain http":             {"_default", "hosts.toml", fmt.Sprintf("server = \"https://%s\"", plain.Host), errdefs.ErrFailedPrecondition, "write http://"},
		"an http server by TLS":  {"_default", "hosts.toml", fmt.Sprintf("server = \"http://%s\"", srv.Host), errdefs.ErrUnknown, "400"},
		"an authority of Docker": {strings.Replace(srv.Host, ":", "_", 1) + "_", "other.crt", string(ca), errdefs.ErrUnknown, "400"}, // the loopback is http by default
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, c.dir, "ca.crt"), string(ca))
			write(t, filepath.Join(dir, c.dir, c.file), c.content)
			err := resolve(t, session(t, client(t, dir), srv.Host+"/a/b:1", nil))
			if c.kind == nil && err != nil || !errors.Is(err, c.kind) || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want %v", err, c.kind)
			}
		})
	}
}

func TestClientCertificate(t *testing.T) {
	srv := registrytest.StartTLS(t)
	srv.TLS.ClientAuth = tls.RequireAnyClientCert
	srv.Push(t, "a/b:1", registrytest.Image(t))
	cert := srv.TLS.Certificates[0]
	dir := t.TempDir()
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: marshalKey(t, cert)})
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	write(t, filepath.Join(dir, "r.example", "c.cert"), string(crt))
	write(t, filepath.Join(dir, "r.example", "c.key"), string(key))
	write(t, filepath.Join(dir, "r.example", "both.pem"), string(crt)+string(key))
	for client_, ok := range map[string]bool{``: false, `client = [["c.cert", "c.key"]]`: true, `client = "both.pem"`: true} {
		write(t, filepath.Join(dir, "r.example", "hosts.toml"), fmt.Sprintf("server = %q\nskip_verify = true\n%s", srv.URL, client_))
		err := resolve(t, session(t, client(t, dir), "r.example/a/b:1", nil))
		if (err == nil) != ok {
			t.Errorf("%q: %v", client_, err)
		}
	}

	// The same, as Docker has it.
	if _, err := dockerCertificates(filepath.Join(dir, "r.example")); err != nil {
		t.Error(err)
	}
}
