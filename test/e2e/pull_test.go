package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-cri/berth/imageservice/registry/registrytest"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestPullErrors(t *testing.T) {
	n := newNode(t)
	good := smallImage(t, "x")
	answer := func(code int) func(*registrytest.Server) {
		return func(s *registrytest.Server) {
			s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				w.WriteHeader(code)
				return true
			})
		}
	}
	blob := func(f func(http.ResponseWriter)) func(*registrytest.Server) {
		return func(s *registrytest.Server) {
			s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/blobs/") {
					return false
				}
				f(w)
				return true
			})
		}
	}
	i := 0
	var wg sync.WaitGroup
	for name, tc := range map[string]struct {
		server func(*registrytest.Server)
		ref    string // appended to the host
		code   codes.Code
		words  []string
	}{
		"no such tag":        {func(*registrytest.Server) {}, "/x:2", codes.NotFound, []string{"/x:2"}},
		"no such repository": {func(*registrytest.Server) {}, "/none:1", codes.NotFound, []string{"/none:1"}},
		"no such digest":     {func(*registrytest.Server) {}, "/x@sha256:" + strings.Repeat("1", 64), codes.NotFound, nil},
		"needs credentials":  {answer(401), "/x:1", codes.Unauthenticated, nil},
		"forbidden":          {answer(403), "/x:1", codes.PermissionDenied, nil},
		"too many requests":  {answer(429), "/x:1", codes.ResourceExhausted, nil},
		"out of order":       {answer(500), "/x:1", codes.Unknown, []string{"desc = RegistryUnavailable"}},
		"not there":          {func(s *registrytest.Server) { s.Close() }, "/x:1", codes.Unknown, []string{"desc = RegistryUnavailable", "connection refused"}},
		"a blob is missing":  {blob(func(w http.ResponseWriter) { w.WriteHeader(404) }), "/x:1", codes.NotFound, nil},
		"another blob":       {blob(func(w http.ResponseWriter) { w.Write([]byte("something else")) }), "/x:1", codes.DataLoss, nil},
		"no platform of ours": {func(s *registrytest.Server) {
			s.Push(t, "x:1", registrytest.Index(t, map[string]v1.Image{"linux/s390x": registrytest.ImageFor(t, "s390x")}))
		}, "/x:1", codes.NotFound, []string{"s390x"}},
	} {
		i++
		host := fmt.Sprintf("r%d.test", i)
		s := n.registryAt(host)
		s.Push(n.t, "x:1", good)
		tc.server(s)
		wg.Go(func() { // beside each other: some are tried again and again
			_, err := n.tryPull(host+tc.ref, nil)
			wantCode(t, name, err, tc.code, append(tc.words, host)...)
		})
	}
	wg.Wait()
	for _, ref := range []string{"", "x/UPPER", "a b", "x:", "x@sha256:short", "http://x/y", strings.Repeat("a", 2000)} {
		_, err := n.tryPull(ref, nil)
		wantInvalid(t, "name "+ref, err)
	}
	if got := n.imageList(); len(got) != 0 {
		t.Errorf("images: %v", got)
	}
}

func TestPullWithCredentials(t *testing.T) {
	n := newNode(t)
	const user, password, token = "robot", "s3cr3t-password", "s3cr3t-token"
	const identity = "s3cr3t-identity"
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	var leaked atomic.Bool
	s := n.registryAt("basic.test")
	s.Push(t, "x:1", smallImage(t, "x"))
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == basic {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="e2e"`)
		w.WriteHeader(401)
		return true
	})
	bearer := n.registryAt("bearer.test")
	bearer.Push(t, "x:1", smallImage(t, "y"))
	bearer.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token":
			if r.Header.Get("Authorization") != basic {
				w.WriteHeader(401)
				return true
			}
			fmt.Fprintf(w, `{"token":%q}`, token)
			return true
		case r.Header.Get("Authorization") == "Bearer "+token:
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="e2e",scope="repository:x:pull"`, bearer.URL))
		w.WriteHeader(401)
		return true
	})
	// OAuth2: the identity token is posted, and an access token comes back.
	oauth := n.registryAt("oauth.test")
	oauth.Push(t, "x:1", smallImage(t, "w"))
	oauth.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token":
			if r.Method != http.MethodPost || r.FormValue("grant_type") != "refresh_token" || r.FormValue("refresh_token") != identity || r.FormValue("scope") != "repository:x:pull" {
				w.WriteHeader(401)
				return true
			}
			fmt.Fprintf(w, `{"access_token":%q}`, token)
			return true
		case r.Header.Get("Authorization") == "Bearer "+token:
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="e2e",scope="repository:x:pull"`, oauth.URL))
		w.WriteHeader(401)
		return true
	})
	open := n.registryAt("open.test")
	open.Push(t, "x:1", smallImage(t, "z"))
	open.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "" {
			leaked.Store(true)
		}
		return false
	})
	both := &runtimeapi.AuthConfig{Username: user, Password: password}
	for name, tc := range map[string]struct {
		ref  string
		auth *runtimeapi.AuthConfig
		code codes.Code
	}{
		"none":                       {"basic.test/x:1", nil, codes.Unauthenticated},
		"wrong":                      {"basic.test/x:1", &runtimeapi.AuthConfig{Username: user, Password: "x"}, codes.Unauthenticated},
		"user and password":          {"basic.test/x:1", both, codes.OK},
		"one field":                  {"basic.test/x:1", &runtimeapi.AuthConfig{Auth: strings.TrimPrefix(basic, "Basic ")}, codes.OK},
		"of this server":             {"basic.test/x:1", &runtimeapi.AuthConfig{Username: user, Password: password, ServerAddress: s.URL}, codes.OK},
		"of another server":          {"basic.test/x:1", &runtimeapi.AuthConfig{Username: user, Password: password, ServerAddress: "https://other.test"}, codes.Unauthenticated},
		"for a token":                {"bearer.test/x:1", both, codes.OK},
		"wrong for a token":          {"bearer.test/x:1", &runtimeapi.AuthConfig{Username: user, Password: "x"}, codes.Unauthenticated},
		"a token":                    {"bearer.test/x:1", &runtimeapi.AuthConfig{RegistryToken: token}, codes.OK},
		"an identity token":          {"oauth.test/x:1", &runtimeapi.AuthConfig{IdentityToken: identity}, codes.OK},
		"another identity token":     {"oauth.test/x:1", &runtimeapi.AuthConfig{IdentityToken: "x"}, codes.Unauthenticated},
		"an identity token, no more": {"oauth.test/x:1", &runtimeapi.AuthConfig{Username: user, Password: password}, codes.Unauthenticated},
		"garbage":                    {"basic.test/x:1", &runtimeapi.AuthConfig{Auth: "%%%"}, codes.InvalidArgument},
		"to a registry that is open": {"open.test/x:1", both, codes.OK},
	} {
		if _, err := n.tryPull(tc.ref, tc.auth); status.Code(err) != tc.code {
			t.Errorf("credentials: %s: %v, want %s", name, err, tc.code)
		}
	}
	// An image that is there is no way round the check.
	if _, err := n.tryPull("basic.test/x:1", nil); status.Code(err) != codes.Unauthenticated {
		t.Errorf("an image that is there, without credentials: %v", err)
	}
	if leaked.Load() {
		t.Error("credentials were sent to a registry that did not ask")
	}
	for _, secret := range []string{password, token, identity, strings.TrimPrefix(basic, "Basic ")} {
		if strings.Contains(n.log.String(), secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
}

// hold makes a registry stop in the middle of each large blob until released.
func hold(s *registrytest.Server) (reached <-chan struct{}, release func()) {
	at, go_ := make(chan struct{}, 100), make(chan struct{})
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		at <- struct{}{}
		select {
		case <-go_:
			return false
		case <-r.Context().Done():
			return true
		}
	})
	return at, sync.OnceFunc(func() { close(go_) })
}

func TestPullsAreShared(t *testing.T) {
	n := newNode(t)
	s := n.registryAt("slow.test")
	s.Push(t, "x:1", smallImage(t, "x"))
	reached, release := hold(s)
	defer release()
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			var err error
			if ids[i], err = n.tryPull("slow.test/x:1", nil); err != nil {
				t.Error(err)
			}
		})
	}
	<-reached
	// One who goes away takes nobody along.
	ctx, cancel := context.WithTimeout(n.ctx(), 200*time.Millisecond)
	defer cancel()
	_, err := n.images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "slow.test/x:1"}})
	wantCode(t, "impatient", err, codes.DeadlineExceeded)
	if got := n.imageList(); len(got) != 0 {
		t.Errorf("listed before it is there: %v", got)
	}
	release()
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Errorf("ids: %v", ids)
		}
	}
	if got := s.Requests("GET /v2/x/blobs/"); len(got) != 3 { // config and two layers
		t.Errorf("blobs were fetched more than once: %v", got)
	}
}

func TestPullIsCancelled(t *testing.T) {
	n := newNode(t)
	s := n.registryAt("slow.test")
	s.Push(t, "x:1", smallImage(t, "x"))
	reached, release := hold(s)
	defer release()
	clean := func(when string) {
		t.Helper()
		eventually(t, 10*time.Second, "nothing is left "+when, func() error {
			if left := append(entries(n.path("root/tmp")), entries(n.path("root/images"))...); len(left) > 1 || len(left) == 1 && left[0] != "broken" {
				return fmt.Errorf("%v", left)
			}
			return nil
		})
		if got := n.imageList(); len(got) != 0 {
			t.Errorf("images %s: %v", when, got)
		}
	}
	begin := func(ctx context.Context) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := n.images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "slow.test/x:1"}})
			done <- err
		}()
		<-reached
		return done
	}
	ctx, cancel := context.WithCancel(n.ctx())
	done := begin(ctx)
	cancel()
	wantCode(t, "cancelled", <-done, codes.Canceled)
	clean("after a cancelled pull")

	ctx, cancel = context.WithTimeout(n.ctx(), 300*time.Millisecond)
	defer cancel()
	wantCode(t, "deadline", <-begin(ctx), codes.DeadlineExceeded)
	clean("after a deadline")

	done = begin(n.ctx())
	n.kill()
	wantCode(t, "daemon killed", <-done, codes.Unavailable)
	n.start()
	clean("after the daemon was killed")

	done = begin(n.ctx())
	began := time.Now()
	n.cmd.Process.Signal(unix.SIGTERM)
	n.cmd.Wait()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the daemon took %s to stop while it pulled", took)
	}
	// It was ended, not cut off with the connection.
	wantCode(t, "daemon stopped", <-done, codes.Unavailable, "shutting down")
	n.start()
	clean("after the daemon was stopped")

	release()
	id := n.pull("slow.test/x:1")
	if n.image("slow.test/x:1").GetId() != id {
		t.Errorf("after all that: %v", n.imageList())
	}
}

// A registry that accepts connections and says nothing must not hold anything
// but its own pulls.
func TestPullFromASilentRegistry(t *testing.T) {
	n := newNode(t, func(n *node) { n.progress = "2s" })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n.write("certs.d/silent.test/hosts.toml", fmt.Sprintf("server = \"http://%s\"\n", l.Addr()))
	done := make(chan error, 1)
	go func() {
		_, err := n.tryPull("silent.test/x:1", nil)
		done <- err
	}()
	time.Sleep(50 * time.Millisecond)
	n.pull(busybox)
	select {
	case err := <-done:
		if err == nil {
			t.Error("a pull from nowhere succeeded")
		}
	case <-time.After(45 * time.Second):
		t.Error("a pull that gets nothing goes on and on")
	}
}
