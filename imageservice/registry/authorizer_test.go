package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/berth-cri/berth/imageservice/registry/registrytest"
	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"
)

func marshalKey(t *testing.T, c tls.Certificate) []byte {
	t.Helper()
	b, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// guard is a registry that asks for what is in its fields.
type guard struct {
	*registrytest.Server
	tokens *httptest.Server

	mu     sync.Mutex
	valid  string            // the Authorization header that opens
	users  map[string]string // for the token server; "" may come without password
	issued int
	seen   []string // Authorization headers that the registry got, "" for none
	asked  []string // token requests: method, query, grant
}

func newGuard(t *testing.T, challenge func(*guard) string) *guard {
	g := &guard{Server: registrytest.Start(t), users: map[string]string{}}
	g.Push(t, "a/b:1", registrytest.Image(t))
	g.tokens = httptest.NewServer(http.HandlerFunc(g.token))
	t.Cleanup(g.tokens.Close)
	g.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.seen = append(g.seen, r.Header.Get("Authorization"))
		if g.valid != "" && r.Header.Get("Authorization") == g.valid {
			return false
		}
		w.Header().Set("WWW-Authenticate", challenge(g))
		w.WriteHeader(401)
		return true
	})
	return g
}

func (g *guard) token(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, strings.Join([]string{r.Method, r.FormValue("service"), r.FormValue("scope"), r.FormValue("grant_type")}, " "))
	user, password, _ := r.BasicAuth()
	if r.Method == http.MethodPost {
		user, password = "token", r.FormValue("refresh_token")
	}
	if want, ok := g.users[user]; !ok || want != password {
		w.WriteHeader(401)
		return
	}
	g.issued++
	g.valid = fmt.Sprintf("Bearer t%d", g.issued)
	fmt.Fprintf(w, `{"access_token": "t%d"}`, g.issued)
}

func bearer(g *guard) string {
	return fmt.Sprintf(`Bearer realm="%s/token",service="reg",scope="repository:a/b:pull"`, g.tokens.URL)
}

func TestAuthentication(t *testing.T) {
	basic := func(*guard) string { return `Basic realm="x"` }
	for name, c := range map[string]struct {
		challenge func(*guard) string
		valid     string
		users     map[string]string
		auth      *Auth
		kind      error
		seen      string // by the registry
		asked     string // of the token server
	}{
		"basic": {
			challenge: basic, valid: "Basic " + b64("u:p"), auth: &Auth{Username: "u", Password: "p"},
			seen: `["" "Basic dTpw"]`, asked: `[]`,
		},
		"basic from auth": {
			challenge: basic, valid: "Basic " + b64("u:p"), auth: &Auth{Auth: b64("u:p")},
			seen: `["" "Basic dTpw"]`, asked: `[]`,
		},
		"basic, anonymous": {
			challenge: basic, kind: errdefs.ErrUnauthenticated, seen: `[""]`, asked: `[]`,
		},
		"basic, a wrong password": {
			challenge: basic, valid: "Basic x", auth: &Auth{Username: "u", Password: "p"}, kind: errdefs.ErrUnauthenticated,
			seen: `["" "Basic dTpw"]`, asked: `[]`,
		},
		"a token for a password": {
			challenge: bearer, users: map[string]string{"u": "p"}, auth: &Auth{Username: "u", Password: "p"},
			seen: `["" "Bearer t1"]`, asked: `["GET reg repository:a/b:pull "]`,
		},
		"a token for nothing": {
			challenge: bearer, users: map[string]string{"": ""},
			seen: `["" "Bearer t1"]`, asked: `["GET reg repository:a/b:pull "]`,
		},
		"a token, the scope is ours when none is asked for": {
			challenge: func(g *guard) string { return fmt.Sprintf(`Bearer realm=%q`, g.tokens.URL) }, users: map[string]string{"": ""},
			seen: `["" "Bearer t1"]`, asked: `["GET  repository:a/b:pull "]`,
		},
		"a token, a wrong password": {
			challenge: bearer, users: map[string]string{"u": "q"}, auth: &Auth{Username: "u", Password: "p"}, kind: errdefs.ErrUnauthenticated,
			seen: `[""]`, asked: `["GET reg repository:a/b:pull "]`,
		},
		"an identity token": {
			challenge: bearer, users: map[string]string{"token": "id"}, auth: &Auth{IdentityToken: "id"},
			seen: `["" "Bearer t1"]`, asked: `["POST reg repository:a/b:pull refresh_token"]`,
		},
		"a registry token": {
			challenge: bearer, valid: "Bearer mine", auth: &Auth{RegistryToken: "mine"},
			seen: `["" "Bearer mine"]`, asked: `[]`,
		},
		"a registry token that is too old": {
			challenge: bearer, valid: "Bearer other", auth: &Auth{RegistryToken: "mine"}, kind: errdefs.ErrUnauthenticated,
			seen: `["" "Bearer mine"]`, asked: `[]`,
		},
		"the server address is another's": {
			challenge: basic, valid: "Basic " + b64("u:p"), auth: &Auth{Username: "u", Password: "p", ServerAddress: "other.example"}, kind: errdefs.ErrUnauthenticated,
			seen: `[""]`, asked: `[]`,
		},
		"a challenge nobody knows": {
			challenge: func(*guard) string { return `Negotiate` }, auth: &Auth{Username: "u", Password: "p"}, kind: errdefs.ErrUnauthenticated,
			seen: `[""]`, asked: `[]`,
		},
		"a token server on a link-local address": {
			challenge: func(*guard) string { return `Bearer realm="http://169.254.169.254/token"` }, auth: &Auth{Username: "u", Password: "p"}, kind: errdefs.ErrPermissionDenied,
			seen: `[""]`, asked: `[]`,
		},
		"a token server that is a file": {
			challenge: func(*guard) string { return `Bearer realm="file:///etc/passwd"` }, auth: &Auth{Username: "u", Password: "p"}, kind: errdefs.ErrUnknown,
			seen: `[""]`, asked: `[]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuard(t, c.challenge)
			g.valid = c.valid
			if c.users != nil {
				g.users = c.users
			}
			err := resolve(t, session(t, client(t, ""), g.Host+"/a/b:1", c.auth))
			if c.kind == nil && err != nil || !errors.Is(err, c.kind) {
				t.Errorf("%v, want %v", err, c.kind)
			}
			if seen := fmt.Sprintf("%q", g.seen); seen != c.seen {
				t.Errorf("registry saw %s, want %s", seen, c.seen)
			}
			if asked := fmt.Sprintf("%q", g.asked); asked != c.asked {
				t.Errorf("token server saw %s, want %s", asked, c.asked)
			}
			if err != nil && c.auth != nil && c.auth.Username != "" && c.auth.ServerAddress == "" && !strings.Contains(err.Error(), `password of "u"`) {
				t.Errorf("the credential is not named: %v", err)
			}
		})
	}
}

func TestAnExpiredTokenIsFetchedOnce(t *testing.T) {
	g := newGuard(t, bearer)
	g.users[""] = ""
	s := session(t, client(t, ""), g.Host+"/a/b:1", nil)
	if err := resolve(t, s); err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	g.valid, g.asked = "Bearer expired", nil
	g.mu.Unlock()
	var many errgroup.Group
	for range 8 {
		many.Go(func() error { _, _, err := s.Resolve(t.Context(), never, false); return err })
	}
	if err := many.Wait(); err != nil {
		t.Fatal(err)
	}
	// A request may be on its way with the old token while the new one comes:
	// it brings none about, since the header has changed meanwhile.
	if len(g.asked) != 1 {
		t.Errorf("token requests: %q", g.asked)
	}
}

func TestNothingSecretFollowsARedirect(t *testing.T) {
	var got http.Header
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		w.Header().Set("WWW-Authenticate", "Basic realm=phishing")
		w.WriteHeader(401)
	}))
	t.Cleanup(other.Close)
	g := newGuard(t, func(*guard) string { return `Basic realm="x"` })
	g.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(401)
			return true
		}
		http.Redirect(w, r, other.URL+"/blob", http.StatusTemporaryRedirect)
		return true
	})
	dir := t.TempDir()
	write(t, filepath.Join(dir, "_default", "hosts.toml"), fmt.Sprintf("server = %q\n[header]\nx-secret = \"s\"", g.URL))
	err := resolve(t, session(t, client(t, dir), g.Host+"/a/b:1", &Auth{Username: "u", Password: "p"}))
	if !errdefs.IsUnauthorized(err) {
		t.Error(err)
	}
	if got == nil || got.Get("Authorization") != "" || got.Get("X-Secret") != "" {
		t.Errorf("the other origin got %v", got)
	}
}

func TestTokenServerMayNotBeLessSecureThanTheRegistry(t *testing.T) {
	a := authorizer{endpoint: &endpoint{}}
	a.endpoint.url.Scheme = "https"
	if _, err := a.checkRealm("http://auth.example/token"); !errdefs.IsPermissionDenied(err) {
		t.Error(err)
	}
	for _, ok := range []string{"https://auth.example/token", "https://10.0.0.1/token"} {
		if _, err := a.checkRealm(ok); err != nil {
			t.Error(err)
		}
	}
}
