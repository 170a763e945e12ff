package pull

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cri/berth/imageservice/reference"
	"github.com/berth-cri/berth/imageservice/registry"
	"github.com/berth-cri/berth/imageservice/registry/registrytest"
)

// gate stops the requests whose path contains a part until it is opened.
type gate struct {
	part string
	open chan struct{}
	in   chan string // each request that came to the gate
	gone chan string // each that left with its client
}

func (r *rig) gate(part string) *gate {
	g := &gate{part: part, open: make(chan struct{}), in: make(chan string, 100), gone: make(chan string, 100)}
	r.srv.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, g.part) {
			return false
		}
		g.in <- req.URL.Path
		select {
		case <-g.open:
			return false
		case <-req.Context().Done():
			g.gone <- req.URL.Path
			return true
		}
	})
	return g
}

// settle waits until the puller looks as wanted.
func (r *rig) settle(want func([]Progress) bool) {
	r.t.Helper()
	for range 1000 {
		if want(r.Pulls()) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	r.t.Fatalf("%+v", r.Pulls())
}

func blobOf(t *testing.T, l registrytest.Layer) string {
	d, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func TestCallersForTheSameImageJoin(t *testing.T) {
	r := newRig(t, nil)
	l := registrytest.Gzip(t, files(1))
	r.srv.Push(t, "a/b:latest", registrytest.Image(t, l))
	g := r.gate(blobOf(t, l))
	const callers = 8
	ids := make([]string, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			name := []string{"a/b", "a/b:latest"}[i%2] // two ways to say the same
			img, err := r.pull(t.Context(), name)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = img.ID
		})
	}
	r.settle(func(p []Progress) bool {
		return len(p) == 1 && p[0].Waiters == callers && p[0].State == Unpacking && p[0].Layers == 1 && p[0].Size == int64(len(l.Blob))
	})
	close(g.open)
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || id == "" {
			t.Errorf("ids %v", ids)
		}
	}
	if got := r.srv.Requests(""); len(got) != 3 {
		t.Errorf("manifest, config and layer, once each: %v", got)
	}
}

func TestOtherCredentialsAreAnotherPull(t *testing.T) {
	r := newRig(t, nil)
	r.srv.Push(t, "a/b:1", registrytest.Image(t))
	g := r.gate("/manifests/")
	ref, err := reference.Parse(r.srv.Host + "/a/b:1")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, user := range []string{"alice", "bob"} {
		wg.Go(func() {
			if _, err := r.Pull(t.Context(), ref, &registry.Auth{Username: user, Password: "x"}); err != nil {
				t.Error(err)
			}
		})
	}
	r.settle(func(p []Progress) bool { return len(p) == 2 })
	close(g.open)
	wg.Wait()
	if n := len(r.srv.Requests("/manifests/")); n != 2 {
		t.Errorf("%d manifests", n)
	}
}

func TestWhoGoesAwayLeavesThePullToTheOthers(t *testing.T) {
	r := newRig(t, nil)
	l := registrytest.Gzip(t, files(1))
	r.srv.Push(t, "a/b:1", registrytest.Image(t, l))
	g := r.gate(blobOf(t, l))
	first, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { _, err := r.pull(first, "a/b:1"); left <- err }()
	<-g.in
	stayed := make(chan error)
	go func() { _, err := r.pull(t.Context(), "a/b:1"); stayed <- err }()
	r.settle(func(p []Progress) bool { return len(p) == 1 && p[0].Waiters == 2 })
	leave() // the one that began it
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(g.open)
	if err := <-stayed; err != nil {
		t.Error(err)
	}
}

func TestTheLastOneToLeaveCancelsThePull(t *testing.T) {
	for name, c := range map[string]struct{ part string }{
		"while resolving":       {"/manifests/"},
		"while reading":         {"/blobs/"},
		"while unpacking":       {""}, // the layer's digest
		"while a layer is half": {"half"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			l := registrytest.Gzip(t, files(1))
			r.srv.Push(t, "a/b:1", registrytest.Image(t, l))
			part := c.part
			if part == "" || part == "half" {
				part = blobOf(t, l)
			}
			g := r.gate(part)
			if c.part == "half" {
				r.srv.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
					if !strings.Contains(req.URL.Path, part) {
						return false
					}
					w.Header().Set("Content-Length", fmt.Sprint(len(l.Blob)))
					w.Write(l.Blob[:len(l.Blob)/2])
					w.(http.Flusher).Flush()
					g.in <- ""
					<-req.Context().Done()
					g.gone <- ""
					return true
				})
			}
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, nil)
			errs := make(chan error)
			go func() { _, err := r.pull(ctx, "a/b:1"); errs <- err }()
			<-g.in
			cancel()
			if err := <-errs; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			<-g.gone // the request has ended
			if len(r.Pulls()) != 0 || len(r.store.Images()) != 0 {
				t.Errorf("%v %v", r.Pulls(), r.store.Images())
			}
			r.clean()
			r.srv.Intercept(nil)
			if _, err := r.pull(t.Context(), "a/b:1"); err != nil {
				t.Errorf("the next one: %v", err)
			}
		})
	}
}

func TestDeadline(t *testing.T) {
	r := newRig(t, nil)
	r.srv.Push(t, "a/b:1", registrytest.Image(t))
	over, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	if _, err := r.pull(over, "a/b:1"); !errors.Is(err, context.DeadlineExceeded) || len(r.srv.Requests("")) > 0 {
		t.Errorf("over before it began: %v, %v", err, r.srv.Requests(""))
	}
	r.gate("/manifests/")
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := r.pull(soon, "a/b:1"); !errors.Is(err, context.DeadlineExceeded) || strings.HasPrefix(err.Error(), "RegistryUnavailable") {
		t.Error(err)
	}
	if len(r.store.Images()) != 0 {
		t.Error("an image is listed")
	}
}

func TestALayerOfTwoImagesIsUnpackedOnce(t *testing.T) {
	shared, one, two := registrytest.Gzip(t, files(0)), registrytest.Gzip(t, files(1)), registrytest.Gzip(t, files(2))
	for name, cancelled := range map[string]bool{"both pulls end well": false, "the pull that has it is cancelled": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.srv.Push(t, "a/one:1", registrytest.Image(t, shared, one))
			r.srv.Push(t, "a/two:1", registrytest.Image(t, shared, two))
			g := r.gate(blobOf(t, shared))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			first, second := make(chan error), make(chan error)
			go func() { _, err := r.pull(ctx, "a/one:1"); first <- err }()
			<-g.in
			go func() { _, err := r.pull(t.Context(), "a/two:1"); second <- err }()
			r.settle(func(p []Progress) bool { return len(p) == 2 && p[1].LayersDone == 1 }) // all but the shared one
			if cancelled {
				cancel()
			}
			want := 1
			if cancelled {
				want = 2
				if err := <-first; !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				<-g.in // the other one asks now
			}
			close(g.open)
			if !cancelled {
				if err := <-first; err != nil {
					t.Error(err)
				}
			}
			if err := <-second; err != nil {
				t.Error(err)
			}
			if n := len(r.srv.Requests(blobOf(t, shared))); n != want {
				t.Errorf("asked for %d times, want %d", n, want)
			}
		})
	}
}
