package registrytest

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Server is a registry that remembers what it was asked.
type Server struct {
	*httptest.Server
	Host string // "127.0.0.1:43211"

	content http.Handler

	mu        sync.Mutex
	requests  []string
	intercept func(http.ResponseWriter, *http.Request) bool
}

// Start serves plain http, StartTLS https with the certificate of httptest.
func Start(t testing.TB) *Server    { return start(t, (*httptest.Server).Start) }
func StartTLS(t testing.TB) *Server { return start(t, (*httptest.Server).StartTLS) }

func start(t testing.TB, how func(*httptest.Server)) *Server {
	s := &Server{content: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	s.Server = httptest.NewUnstartedServer(s)
	s.Server.Config.ErrorLog = log.New(io.Discard, "", 0)
	how(s.Server)
	s.Host = s.Listener.Addr().String()
	t.Cleanup(s.Close)
	return s
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
	intercept := s.intercept
	s.mu.Unlock()
	if intercept == nil || !intercept(w, r) {
		s.Serve(w, r)
	}
}

// Serve gives the right answer.
func (s *Server) Serve(w http.ResponseWriter, r *http.Request) { s.content.ServeHTTP(w, r) }

// Intercept lets f answer requests; what it returns false for is answered rightly.
func (s *Server) Intercept(f func(http.ResponseWriter, *http.Request) (answered bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = f
}

// Requests lists "METHOD path" of all requests that contain the part.
func (s *Server) Requests(part string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, r := range s.requests {
		if strings.Contains(r, part) {
			out = append(out, r)
		}
	}
	return out
}

// Forget empties the list of requests.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

// Push stores an image or index under "repository:tag" and returns its digest.
// It takes no part in Intercept and Requests.
func (s *Server) Push(t testing.TB, repositoryTag string, what interface {
	remote.Taggable
	Digest() (v1.Hash, error)
}) string {
	t.Helper()
	ref, err := name.ParseReference(s.Host+"/"+repositoryTag, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	direct := remote.WithTransport(handlerTransport{s.content})
	switch what := what.(type) {
	case v1.Image:
		err = remote.Write(ref, what, direct)
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, what, direct)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := what.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// handlerTransport calls a handler without a network.
type handlerTransport struct{ h http.Handler }

func (t handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	t.h.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}
