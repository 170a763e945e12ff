package pull

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cri/berth/imageservice/reference"
	"github.com/berth-cri/berth/imageservice/registry/registrytest"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

func TestLayersSideBySide(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxConcurrentLayers = 2 })
	var layers []registrytest.Layer
	for i := range 5 {
		layers = append(layers, registrytest.Gzip(t, files(i)))
	}
	img := registrytest.Image(t, layers[0], layers[1], layers[2], layers[3], layers[4])
	r.srv.Push(t, "a/b:1", img)
	isLayer := map[string]bool{}
	for _, l := range layers {
		isLayer[blobOf(t, l)] = true
	}
	var mu sync.Mutex
	now, most := 0, 0
	two := make(chan struct{})
	r.srv.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if !isLayer[req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]] {
			return false
		}
		mu.Lock()
		now++
		most = max(most, now)
		if now == 2 && most == 2 {
			select {
			case <-two:
			default:
				close(two)
			}
		}
		mu.Unlock()
		<-two // the first ones wait for each other: so they are side by side
		mu.Lock()
		now--
		mu.Unlock()
		return false
	})
	if _, err := r.pull(t.Context(), "a/b:1"); err != nil {
		t.Fatal(err)
	}
	if most != 2 {
		t.Errorf("%d at once", most)
	}
}

func TestAPullThatGetsNowhereEnds(t *testing.T) {
	l := registrytest.Gzip(t, files(1))
	for name, c := range map[string]struct {
		serve func(w http.ResponseWriter, r *http.Request)
		text  string
	}{
		"nothing comes": {func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			fmt.Sprintf("while unpacking: 0 of %d bytes downloaded, 0 unpacked, 0 of 1 layers done", len(l.Blob))},
		"a trickle": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(l.Blob)))
			for i := range len(l.Blob) {
				w.Write(l.Blob[i : i+1])
				w.(http.Flusher).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-time.After(5 * time.Millisecond):
				}
			}
		}, "while unpacking"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.ProgressTimeout = 100 * time.Millisecond })
			r.srv.Push(t, "a/b:1", registrytest.Image(t, l))
			r.srv.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
				if !strings.HasSuffix(req.URL.Path, blobOf(t, l)) {
					return false
				}
				c.serve(w, req)
				return true
			})
			_, err := r.pull(t.Context(), "a/b:1")
			if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "no progress for 100ms") || !strings.Contains(err.Error(), c.text) {
				t.Error(err)
			}
			r.clean()
		})
	}
}

func TestWaitingForAnotherPullIsNotStandingStill(t *testing.T) {
	l := registrytest.Gzip(t, files(1))
	r := newRig(t, nil)
	r.srv.Push(t, "a/b:1", registrytest.Image(t, l))
	diffID, _ := l.DiffID()
	w, err := r.store.BeginLayer(t.Context(), digest.Digest(diffID.String()))
	if err != nil {
		t.Fatal(err)
	}
	short := New(Options{Store: r.store, Logger: r.opts.Logger, Settings: Settings{Registry: r.opts.Registry, ProgressTimeout: 30 * time.Millisecond}})
	defer short.Close()
	ref, _ := reference.Parse(r.srv.Host + "/a/b:1")
	done := make(chan error)
	go func() { _, err := short.Pull(t.Context(), ref, nil); done <- err }()
	select {
	case err := <-done:
		t.Error(err)
	case <-time.After(200 * time.Millisecond): // many times the limit
	}
	w.Abort()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestClose(t *testing.T) {
	r := newRig(t, nil)
	r.srv.Push(t, "a/b:1", registrytest.Image(t))
	g := r.gate("/manifests/")
	errs := make(chan error)
	go func() { _, err := r.pull(t.Context(), "a/b:1"); errs <- err }()
	<-g.in
	go r.Close()
	if err := <-errs; !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "shutting down") {
		t.Error(err)
	}
	r.Close()
	if _, err := r.pull(t.Context(), "a/b:1"); !errdefs.IsUnavailable(err) {
		t.Error(err)
	}
}

func TestALargeLayerOverAFlakyLine(t *testing.T) {
	content := map[string]string{}
	for i := range 40 {
		content[fmt.Sprintf("file%d", i)] = strings.Repeat(fmt.Sprintf("%d ", i*i), 100000)
	}
	l := registrytest.Plain(t, content)
	r := newRig(t, nil)
	r.srv.Push(t, "a/b:1", registrytest.OCI(registrytest.Image(t, l)))
	r.srv.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.HasSuffix(req.URL.Path, blobOf(t, l)) {
			return false
		}
		from := 0
		fmt.Sscanf(req.Header.Get("Range"), "bytes=%d-", &from)
		w.Header().Set("Content-Length", fmt.Sprint(len(l.Blob)-from))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(l.Blob)-1, len(l.Blob)))
		if from > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		to := min(from+3<<20, len(l.Blob))
		w.Write(l.Blob[from:to])
		if to < len(l.Blob) {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		return true
	})
	img, err := r.pull(t.Context(), "a/b:1")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range content {
		if r.file(img, name) != want {
			t.Errorf("%s differs", name)
		}
	}
	if n := len(r.srv.Requests(blobOf(t, l))); n < 3 {
		t.Errorf("%d requests for %d bytes", n, len(l.Blob))
	}
}
