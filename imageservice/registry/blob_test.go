package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-cri/berth/imageservice/registry/registrytest"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	crierrors "k8s.io/cri-api/pkg/errors"
)

// content is 4 MiB that repeat nowhere near.
var content = func() []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < 4<<20; i++ {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.Bytes()
}()

var contentDesc = ocispec.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}

type answer func(w http.ResponseWriter, r *http.Request, from int)

// whole answers ranges as it should.
func whole(w http.ResponseWriter, r *http.Request, from int) { part(w, from, len(content)) }

// part promises the rest and brings it up to a byte.
func part(w http.ResponseWriter, from, to int) {
	w.Header().Set("Content-Length", strconv.Itoa(len(content)-from))
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
		w.WriteHeader(http.StatusPartialContent)
	}
	w.Write(content[from:to])
	if to < len(content) {
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

// breaks sends n bytes at a time and then breaks the connection.
func breaks(n int) answer {
	return func(w http.ResponseWriter, r *http.Request, from int) { part(w, from, min(from+n, len(content))) }
}

func code(c int) answer {
	return func(w http.ResponseWriter, r *http.Request, from int) { w.WriteHeader(c) }
}

func blobServer(t *testing.T, a answer) *registrytest.Server {
	srv := registrytest.Start(t)
	srv.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		from := 0
		if s := r.Header.Get("Range"); s != "" {
			var to int
			if _, err := fmt.Sscanf(s, "bytes=%d-%d", &from, &to); err != nil || to != len(content)-1 {
				t.Errorf("range %q", s)
			}
		}
		a(w, r, from)
		return true
	})
	return srv
}

func TestBlobSurvives(t *testing.T) {
	half := len(content) / 2
	once := func(first, then answer) answer {
		n := 0
		return func(w http.ResponseWriter, r *http.Request, from int) {
			n++
			if n == 1 {
				first(w, r, from)
			} else {
				then(w, r, from)
			}
		}
	}
	forever := func(w http.ResponseWriter, r *http.Request, from int) {
		part(w, from, half)
	}
	stalls := func(w http.ResponseWriter, r *http.Request, from int) {
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		w.Write(content[:half])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	for name, c := range map[string]struct {
		servers  []answer
		requests []int
	}{
		"nothing":                               {[]answer{whole}, []int{1}},
		"a break in the middle":                 {[]answer{once(breaks(half), whole)}, []int{2}},
		"a break at the first byte":             {[]answer{once(breaks(0), whole)}, []int{2}},
		"a break after every megabyte":          {[]answer{breaks(1 << 20)}, []int{5}},
		"a break, and ranges are not served":    {[]answer{once(breaks(half), func(w http.ResponseWriter, r *http.Request, _ int) { whole(w, r, 0) })}, []int{2}},
		"a break, then a registry that is busy": {[]answer{once(breaks(half), once(code(503), whole))}, []int{3}},
		"a connection that stalls":              {[]answer{once(stalls, whole)}, []int{2}},
		"a mirror without it":                   {[]answer{code(404), whole}, []int{1, 1}},
		"a mirror that is ill":                  {[]answer{code(500), whole}, []int{1, 1}},
		"a mirror that breaks again and again":  {[]answer{forever, whole}, []int{4, 1}}, // resumed 3 times with nothing new
		"a mirror that answers the wrong range": {[]answer{once(breaks(half), func(w http.ResponseWriter, r *http.Request, from int) { part(w, from-1, len(content)) }), whole}, []int{2, 1}},
		"a mirror with another length":          {[]answer{func(w http.ResponseWriter, r *http.Request, _ int) { fmt.Fprint(w, "short") }, whole}, []int{1, 1}},
		"a mirror that compresses what it serves": {[]answer{func(w http.ResponseWriter, r *http.Request, _ int) {
			w.Header().Set("Content-Encoding", "gzip")
			whole(w, r, 0)
		}, whole}, []int{1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var file strings.Builder
			var servers []*registrytest.Server
			for i, a := range c.servers {
				s := blobServer(t, a)
				servers = append(servers, s)
				if i == len(c.servers)-1 {
					file.WriteString("server = \"" + s.URL + "\"\n" + "")
				}
			}
			text := file.String()
			for _, s := range servers[:len(servers)-1] {
				text += fmt.Sprintf("[host.%q]\n", s.URL)
			}
			write(t, filepath.Join(dir, "r.example", "hosts.toml"), text)
			cl := New(Options{HostsDir: dir, Pause: time.Millisecond, Retries: 3, Stall: 200 * time.Millisecond})
			t.Cleanup(cl.Close)
			b := session(t, cl, "r.example/a/b:1", nil).Blob(t.Context(), contentDesc)
			defer b.Close()
			got, err := io.ReadAll(b)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, content) {
				t.Fatalf("%d bytes, not the content", len(got))
			}
			for i, s := range servers {
				if n := len(s.Requests("/blobs/")); n != c.requests[i] {
					t.Errorf("server %d: %d requests, want %d", i, n, c.requests[i])
				}
			}
		})
	}
}

func TestBlobGivesUp(t *testing.T) {
	for name, c := range map[string]struct {
		answer answer
		kind   error
		text   string
	}{
		"not found":                   {code(404), errdefs.ErrNotFound, "404"},
		"forbidden":                   {code(403), errdefs.ErrPermissionDenied, "403"},
		"ill":                         {code(500), crierrors.ErrRegistryUnavailable, "500"},
		"a break without progress":    {func(w http.ResponseWriter, r *http.Request, from int) { part(w, from, 1000) }, crierrors.ErrRegistryUnavailable, "after 1000 of"},
		"too short":                   {func(w http.ResponseWriter, r *http.Request, _ int) { fmt.Fprint(w, "x") }, errdefs.ErrDataLoss, "the manifest says"},
		"the end, without length":     {func(w http.ResponseWriter, r *http.Request, _ int) { w.(http.Flusher).Flush() }, crierrors.ErrRegistryUnavailable, "unexpected EOF"},
		"a range when none was asked": {func(w http.ResponseWriter, r *http.Request, _ int) { w.WriteHeader(206) }, errdefs.ErrDataLoss, "the range is"},
		"a range that says another size": {func(w http.ResponseWriter, r *http.Request, _ int) {
			w.Header().Set("Content-Range", "bytes 0-1/2")
			w.WriteHeader(206)
		}, errdefs.ErrDataLoss, "the range is"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := blobServer(t, c.answer)
			b := session(t, client(t, ""), srv.Host+"/a/b:1", nil).Blob(t.Context(), contentDesc)
			defer b.Close()
			_, err := io.Copy(io.Discard, b)
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want %v %q", err, c.kind, c.text)
			}
			if n := len(srv.Requests("")); n > 5 {
				t.Errorf("%d requests", n)
			}
			if _, again := b.Read(make([]byte, 1)); again == nil || again == io.EOF {
				t.Errorf("read again: %v", again)
			}
		})
	}
}

func TestBlobEndsWithItsCaller(t *testing.T) {
	srv := blobServer(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		w.Write(content[:1000])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	for name, end := range map[string]func(b *Blob, cancel context.CancelFunc){
		"cancelled": func(_ *Blob, cancel context.CancelFunc) { cancel() },
		"closed":    func(b *Blob, _ context.CancelFunc) { b.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			b := session(t, client(t, ""), srv.Host+"/a/b:1", nil).Blob(ctx, contentDesc)
			defer b.Close()
			if _, err := io.ReadFull(b, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			go end(b, cancel)
			if _, err := b.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}

func TestConfigIsVerifiedAndBounded(t *testing.T) {
	data := []byte("{}")
	for name, c := range map[string]struct {
		body []byte
		kind error
	}{
		"right": {data, nil},
		"wrong": {[]byte("{ }"), errdefs.ErrDataLoss},
		"huge":  {make([]byte, MaxConfig+1), errdefs.ErrResourceExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			srv := blobServer(t, func(w http.ResponseWriter, r *http.Request, _ int) { w.Write(c.body) })
			got, err := session(t, client(t, ""), srv.Host+"/a/b:1", nil).Config(t.Context(), digest.FromBytes(data))
			if c.kind == nil && (err != nil || !bytes.Equal(got, data)) || !errors.Is(err, c.kind) {
				t.Errorf("%v, want %v", err, c.kind)
			}
		})
	}
}
