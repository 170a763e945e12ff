package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cri/berth/imageservice/reference"
	"github.com/berth-cri/berth/imageservice/registry/registrytest"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	crierrors "k8s.io/cri-api/pkg/errors"
)

func never(digest.Digest) bool  { return false }
func always(digest.Digest) bool { return true }

// client is a Client whose files and pauses are the test's.
func client(t *testing.T, hostsDir string) *Client {
	c := New(Options{HostsDir: hostsDir, Pause: time.Millisecond, Retries: 3, Stall: 10 * time.Second})
	t.Cleanup(c.Close)
	return c
}

func session(t *testing.T, c *Client, image string, auth *Auth) *Session {
	t.Helper()
	ref, err := reference.Parse(image)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Open(ref, auth)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func resolve(t *testing.T, s *Session) error {
	t.Helper()
	_, _, err := s.Resolve(t.Context(), never, false)
	return err
}

func status(code int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(code)
		return true
	}
}

func TestResolveAsksAsLittleAsPossible(t *testing.T) {
	srv := registrytest.Start(t)
	d := srv.Push(t, "a/b:1", registrytest.Image(t))
	noHead := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
		return r.Method == http.MethodHead
	}
	noDigest := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Type", "text/plain")
		}
		return r.Method == http.MethodHead
	}
	for name, c := range map[string]struct {
		image     string
		known     func(digest.Digest) bool
		likely    bool
		intercept func(http.ResponseWriter, *http.Request) bool
		want      string // methods
		body      bool
	}{
		"a new tag":                               {"/a/b:1", never, false, nil, "GET", true},
		"a tag that is here":                      {"/a/b:1", always, true, nil, "HEAD", false},
		"a tag that has moved":                    {"/a/b:1", never, true, nil, "HEAD GET", true},
		"a new digest":                            {"/a/b@" + d, never, false, nil, "GET", true},
		"a digest that is here":                   {"/a/b@" + d, always, false, nil, "HEAD", false},
		"a registry without HEAD":                 {"/a/b:1", always, true, noHead, "HEAD GET", true},
		"a proxy that drops the digest from HEAD": {"/a/b:1", always, true, noDigest, "HEAD GET", true},
	} {
		t.Run(name, func(t *testing.T) {
			srv.Intercept(c.intercept)
			srv.Forget()
			s := session(t, client(t, ""), srv.Host+c.image, nil)
			desc, body, err := s.Resolve(t.Context(), c.known, c.likely)
			if err != nil {
				t.Fatal(err)
			}
			if desc.Digest.String() != d || (body != nil) != c.body {
				t.Errorf("%s, %d bytes", desc.Digest, len(body))
			}
			var methods []string
			for _, r := range srv.Requests("") {
				m, _, _ := strings.Cut(r, " ")
				methods = append(methods, m)
			}
			if got := strings.Join(methods, " "); got != c.want {
				t.Errorf("requests %s, want %s", got, c.want)
			}
			if len(s.Trace()) != 1 {
				t.Errorf("trace: %v", s.Trace())
			}
		})
	}
}

func TestErrorsHaveTheirKind(t *testing.T) {
	huge := func(w http.ResponseWriter, r *http.Request) bool {
		io.CopyN(w, zeros{}, MaxManifest+1)
		return true
	}
	after := func(seconds string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Retry-After", seconds)
			w.WriteHeader(429)
			return true
		}
	}
	detail := func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(404)
		fmt.Fprint(w, `{"errors":[{"code":"NAME_UNKNOWN","message":"no such\nrepository"}]}`)
		return true
	}
	liar := func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Docker-Content-Digest", digest.FromString("x").String())
		fmt.Fprint(w, "{}")
		return true
	}
	for name, c := range map[string]struct {
		intercept func(http.ResponseWriter, *http.Request) bool
		kind      error
		text      string
		requests  int
	}{
		"not found":                    {detail, errdefs.ErrNotFound, "404 Not Found: NAME_UNKNOWN: no such repository", 1},
		"forbidden":                    {status(403), errdefs.ErrPermissionDenied, "403", 1},
		"401 without a challenge":      {status(401), errdefs.ErrUnauthenticated, "no challenge", 1},
		"too many requests":            {status(429), errdefs.ErrResourceExhausted, "429", 4},
		"too many, soon again":         {after("0"), errdefs.ErrResourceExhausted, "429", 4},
		"too many, in an hour again":   {after("3600"), errdefs.ErrResourceExhausted, "429", 1},
		"bad gateway":                  {status(502), crierrors.ErrRegistryUnavailable, "502", 4},
		"a teapot":                     {status(418), errdefs.ErrUnknown, "418", 1},
		"a manifest without end":       {huge, errdefs.ErrResourceExhausted, "more than 4194304 bytes", 1},
		"a digest that is not the one": {liar, errdefs.ErrDataLoss, "the manifest's digest is", 1},
	} {
		t.Run(name, func(t *testing.T) {
			srv := registrytest.Start(t)
			srv.Intercept(c.intercept)
			err := resolve(t, session(t, client(t, ""), srv.Host+"/a/b:1", nil))
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), srv.Host) {
				t.Errorf("%v (want %v, %s)", err, c.kind, c.text)
			}
			if n := len(srv.Requests("")); n != c.requests {
				t.Errorf("%d requests, want %d", n, c.requests)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestPassingTroubleIsWaitedOut(t *testing.T) {
	for _, code := range []int{408, 429, 500, 503} {
		srv := registrytest.Start(t)
		srv.Push(t, "a/b:1", registrytest.Image(t))
		left := 3
		srv.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			left--
			if left >= 0 {
				w.WriteHeader(code)
			}
			return left >= 0
		})
		if err := resolve(t, session(t, client(t, ""), srv.Host+"/a/b:1", nil)); err != nil {
			t.Errorf("%d: %v", code, err)
		}
	}
}

func TestRegistryThatIsDown(t *testing.T) {
	srv := registrytest.Start(t)
	host := srv.Host
	srv.Close()
	err := resolve(t, session(t, client(t, ""), host+"/a/b:1", nil))
	if !errors.Is(err, crierrors.ErrRegistryUnavailable) || !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "connection refused") {
		t.Error(err)
	}

	// A dial that times out is context.DeadlineExceeded by itself.
	dir := t.TempDir()
	write(t, filepath.Join(dir, "_default", "hosts.toml"), `dial_timeout = "1ns"`)
	err = resolve(t, session(t, client(t, dir), "192.0.2.1/a/b:1", nil))
	if !errors.Is(err, crierrors.ErrRegistryUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestRegistryThatNeverAnswers(t *testing.T) {
	srv := registrytest.Start(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	srv.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return true
	})
	c := New(Options{Pause: time.Millisecond, Retries: 1, Stall: 20 * time.Millisecond})
	t.Cleanup(c.Close)
	err := resolve(t, session(t, c, srv.Host+"/a/b:1", nil))
	if !errors.Is(err, crierrors.ErrRegistryUnavailable) || !strings.Contains(err.Error(), errStalled.Error()) || errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	_, _, err = session(t, client(t, ""), srv.Host+"/a/b:1", nil).Resolve(ctx, never, false)
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, crierrors.ErrRegistryUnavailable) {
		t.Errorf("the caller's deadline: %v", err)
	}
}

func TestMirrors(t *testing.T) {
	right := func(t *testing.T) *registrytest.Server {
		s := registrytest.Start(t)
		s.Push(t, "a/b:1", registrytest.Image(t))
		return s
	}
	wrong := func(f func(http.ResponseWriter, *http.Request) bool) func(*testing.T) *registrytest.Server {
		return func(t *testing.T) *registrytest.Server { s := right(t); s.Intercept(f); return s }
	}
	closed := func(t *testing.T) *registrytest.Server { s := right(t); s.Close(); return s }
	garbage := func(w http.ResponseWriter, r *http.Request) bool { fmt.Fprint(w, "garbage"); return true }
	for name, c := range map[string]struct {
		mirror, server func(*testing.T) *registrytest.Server
		byDigest       bool
		keys           string
		kind           error // nil: it is found
		atMirror       int   // requests
		atServer       int
	}{
		"the mirror has it":                     {mirror: right, server: right, atMirror: 1},
		"the mirror is down":                    {mirror: closed, server: right, atServer: 1},
		"the mirror lacks it":                   {mirror: wrong(status(404)), server: right, atMirror: 1, atServer: 1},
		"the mirror is ill: no retry":           {mirror: wrong(status(500)), server: right, atMirror: 1, atServer: 1},
		"the mirror refuses":                    {mirror: wrong(status(401)), server: right, atMirror: 1, atServer: 1},
		"the mirror garbles it":                 {mirror: wrong(garbage), server: right, byDigest: true, atMirror: 1, atServer: 1},
		"the mirror may not resolve":            {mirror: right, server: right, keys: `capabilities = ["pull"]`, atServer: 1},
		"the mirror may pull a digest":          {mirror: right, server: right, byDigest: true, keys: `capabilities = ["pull"]`, atMirror: 1},
		"the mirror may not pull":               {mirror: right, server: right, byDigest: true, keys: `capabilities = ["resolve"]`, atServer: 1},
		"down and not found is not found":       {mirror: closed, server: wrong(status(404)), kind: errdefs.ErrNotFound, atServer: 1},
		"not found and down is not available":   {mirror: wrong(status(404)), server: closed, kind: crierrors.ErrRegistryUnavailable, atMirror: 1},
		"denied and not found is not found":     {mirror: wrong(status(403)), server: wrong(status(404)), kind: errdefs.ErrNotFound, atMirror: 1, atServer: 1},
		"both down":                             {mirror: closed, server: closed, kind: crierrors.ErrRegistryUnavailable},
		"a registry that is its own mirror too": {mirror: nil, server: right, atServer: 1},
	} {
		t.Run(name, func(t *testing.T) {
			server := c.server(t)
			mirror := server
			if c.mirror != nil {
				mirror = c.mirror(t)
			}
			dir := t.TempDir()
			write(t, filepath.Join(dir, "r.example", "hosts.toml"), fmt.Sprintf("server = %q\n[host.%q]\n%s", "http://"+server.Host, "http://"+mirror.Host, c.keys))
			image := "r.example/a/b:1"
			if c.byDigest {
				d, _ := registrytest.Image(t).Digest()
				image = "r.example/a/b@" + d.String()
			}
			s := session(t, client(t, dir), image, nil)
			err := resolve(t, s)
			if c.kind == nil && err != nil || !errors.Is(err, c.kind) {
				t.Errorf("%v, want %v", err, c.kind)
			}
			if err != nil && (!strings.Contains(err.Error(), "mirror http://"+mirror.Host) || !strings.Contains(err.Error(), server.Host)) {
				t.Errorf("not both are named: %v", err)
			}
			if c.mirror != nil && len(mirror.Requests("ns=r.example")) != c.atMirror {
				t.Errorf("at the mirror: %v", mirror.Requests(""))
			}
			if len(server.Requests("")) != c.atServer {
				t.Errorf("at the server: %v", server.Requests(""))
			}
		})
	}
}

func TestMirrorWithPathAndHeader(t *testing.T) {
	srv := registrytest.Start(t)
	srv.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/api/docker/a/b/manifests/1" && r.Header.Get("X-Team") == "blue" {
			fmt.Fprint(w, "{}")
			return true
		}
		t.Errorf("%s %v", r.URL, r.Header)
		return false
	})
	dir := t.TempDir()
	write(t, filepath.Join(dir, "_default", "hosts.toml"), fmt.Sprintf(`
		server = "http://127.0.0.1:1"
		[host."http://%s/api/docker"]
		override_path = true
		header = { x-team = "blue" }`, srv.Host))
	if err := resolve(t, session(t, client(t, dir), "r.example/a/b:1", nil)); err != nil {
		t.Error(err)
	}
}
