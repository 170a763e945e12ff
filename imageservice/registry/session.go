package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-cri/berth/imageservice/reference"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Session reads one image. It is safe for concurrent use: the layers of an
// image are read side by side.
type Session struct {
	ref   reference.Reference
	opts  Options
	hosts []*host

	mu    sync.Mutex
	trace []Attempt
}

// host is an endpoint as this session sees it.
type host struct {
	*endpoint
	auth  *authorizer
	label string // of the credential, for traces
	query string

	mu  sync.Mutex
	bad map[digest.Digest]bool // blobs that it sent wrongly
}

func (h *host) reject(d digest.Digest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bad == nil {
		h.bad = map[digest.Digest]bool{}
	}
	h.bad[d] = true
}

func (h *host) rejected(d digest.Digest) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bad[d]
}

func resolves(h *host) bool { return h.resolve }
func pulls(h *host) bool    { return h.pull }

func (s *Session) can(want func(*host) bool) bool { return slices.ContainsFunc(s.hosts, want) }

// each asks the endpoints in turn until one gives what is wanted. Only the
// last one is asked again: before that, the next endpoint is the faster help.
func (s *Session) each(ctx context.Context, want func(*host) bool, what string, ask func(context.Context, *host) (request string, err error)) error {
	var candidates []*host
	for _, h := range s.hosts {
		if want(h) {
			candidates = append(candidates, h)
		}
	}
	failure := &Error{Request: what}
	for i, h := range candidates {
		for try := 0; ; try++ {
			began := time.Now()
			limited, cancel := context.WithTimeoutCause(ctx, s.opts.Stall, &linkError{errStalled, unavailable})
			request, err := ask(limited, h)
			if err != nil && limited.Err() != nil && ctx.Err() == nil {
				err = context.Cause(limited)
			}
			cancel()
			if ended := contextError(ctx); err != nil && ended != nil {
				return fmt.Errorf("%s: %w", what, ended)
			}
			attempt := s.note(h, request, began, err)
			if err == nil {
				return nil
			}
			failure.Attempts, failure.kind = append(failure.Attempts, attempt), kindOf(err)
			if i+1 < len(candidates) || try >= s.opts.Retries || !temporary(err) {
				break
			}
			if !s.pause(ctx, try, err) {
				break
			}
		}
	}
	return failure
}

// pause waits before the next try; false when it would be too long.
func (s *Session) pause(ctx context.Context, try int, err error) bool {
	const longest = 30 * time.Second
	wait := min(s.opts.Pause<<min(try, 10), longest)
	var status *statusError
	if errors.As(err, &status) && status.retryAfter > 0 {
		if wait = status.retryAfter; wait > longest {
			return false
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return true // the next try says so
	}
}

// kindOf finds the kind that an Error carries on.
func kindOf(err error) error {
	for _, kind := range []error{
		errdefs.ErrUnauthenticated, errdefs.ErrPermissionDenied, errdefs.ErrNotFound, errdefs.ErrResourceExhausted,
		errdefs.ErrDataLoss, errdefs.ErrFailedPrecondition, errdefs.ErrNotImplemented, errdefs.ErrInvalidArgument, errdefs.ErrUnknown,
	} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return unavailable
}

// send makes one request of an endpoint and answers one challenge.
func (s *Session) send(ctx context.Context, h *host, method, path string, header http.Header) (*http.Response, error) {
	for again := false; ; again = true {
		address := h.url.Scheme + "://" + h.url.Host + h.url.Path + "/" + s.ref.Repository + "/" + path + h.query
		req, err := http.NewRequestWithContext(ctx, method, address, nil)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
		for name, values := range header {
			req.Header[name] = values
		}
		req.Header.Set("User-Agent", userAgent)
		// Some mirrors compress what they pass on, digests and ranges then fail.
		req.Header.Set("Accept-Encoding", "identity")
		for name, values := range h.header {
			req.Header[name] = values
		}
		used := h.auth.current()
		if used != "" {
			req.Header.Set("Authorization", used)
		}
		resp, err := h.client.Do(req)
		if err != nil {
			return nil, transportError(err)
		}
		// A 401 from where the endpoint redirected to is not its challenge.
		if resp.StatusCode != http.StatusUnauthorized || again || !sameOrigin(resp.Request.URL, &h.url) {
			return resp, nil
		}
		drain(resp.Body)
		if err := h.auth.answer(ctx, resp, used); err != nil {
			return nil, fmt.Errorf("401 Unauthorized: %w", err)
		}
	}
}

// acceptManifests is one header: some registries read only the first.
var acceptManifests = http.Header{"Accept": {strings.Join([]string{
	ocispec.MediaTypeImageIndex, mediaTypeDockerList,
	ocispec.MediaTypeImageManifest, mediaTypeDockerManifest,
	"*/*;q=0.1",
}, ", ")}}

const (
	mediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"

	// MaxManifest is what registries accept (distribution spec, 4 MiB).
	MaxManifest = 4 << 20
	// MaxConfig bounds an image's configuration.
	MaxConfig = 8 << 20
)

// Resolve finds out what the reference means now. known says whether the
// caller has the content of a digest already; then only the digest is asked
// for (HEAD, which Docker Hub does not count). The body is empty when only
// the digest is known, else it is the manifest.
func (s *Session) Resolve(ctx context.Context, known func(digest.Digest) bool, likely bool) (desc ocispec.Descriptor, body []byte, err error) {
	want := resolves
	if s.ref.Digest != "" {
		want = pulls
		likely = likely || known(s.ref.Digest)
	}
	err = s.each(ctx, want, "manifest of "+s.ref.String(), func(ctx context.Context, h *host) (string, error) {
		desc, body = ocispec.Descriptor{}, nil
		path := "manifests/" + s.ref.Object()
		if likely || !h.pull {
			var err error
			if desc, err = s.head(ctx, h, path); err == nil && (known(desc.Digest) || !h.pull) {
				return "HEAD " + path, nil
			}
			// An answer to HEAD has no text and some proxies answer it wrongly:
			// GET tells more. Not when asking again makes things worse.
			var status *statusError
			if err != nil && (!h.pull || !errors.As(err, &status) || temporary(err)) {
				return "HEAD " + path, err
			}
		}
		var err error
		desc, body, err = s.get(ctx, h, path, s.ref.Digest)
		return "GET " + path, err
	})
	return desc, body, err
}

func (s *Session) head(ctx context.Context, h *host, path string) (ocispec.Descriptor, error) {
	resp, err := s.send(ctx, h, http.MethodHead, path, acceptManifests)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer drain(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return ocispec.Descriptor{}, newStatusError(resp)
	}
	desc := ocispec.Descriptor{MediaType: contentType(resp), Size: resp.ContentLength, Digest: digest.Digest(resp.Header.Get("Docker-Content-Digest"))}
	if desc.Digest.Validate() != nil {
		// 200 without a digest: some proxies drop the header, GET will tell.
		return desc, &statusError{status: resp.StatusCode, detail: "no Docker-Content-Digest"}
	}
	if s.ref.Digest != "" && s.ref.Digest != desc.Digest {
		return desc, fmt.Errorf("the endpoint has %s under that digest: %w", desc.Digest, errdefs.ErrDataLoss)
	}
	return desc, nil
}

// get reads a manifest; want is its digest, or empty when a tag is read.
func (s *Session) get(ctx context.Context, h *host, path string, want digest.Digest) (desc ocispec.Descriptor, body []byte, err error) {
	resp, err := s.send(ctx, h, http.MethodGet, path, acceptManifests)
	if err != nil {
		return desc, nil, err
	}
	defer drain(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return desc, nil, newStatusError(resp)
	}
	if body, err = readAll(resp.Body, MaxManifest); err != nil {
		return desc, nil, err
	}
	desc = ocispec.Descriptor{MediaType: contentType(resp), Size: int64(len(body)), Digest: digest.FromBytes(body)}
	if want == "" {
		want = digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	}
	if want != "" && want != desc.Digest {
		return desc, nil, fmt.Errorf("the manifest's digest is %s, not %s: %w", desc.Digest, want, errdefs.ErrDataLoss)
	}
	return desc, body, nil
}

// Manifest reads a manifest or index by its digest.
func (s *Session) Manifest(ctx context.Context, want digest.Digest) (desc ocispec.Descriptor, body []byte, err error) {
	err = s.each(ctx, pulls, "manifest "+want.String(), func(ctx context.Context, h *host) (string, error) {
		path := "manifests/" + want.String()
		var err error
		desc, body, err = s.get(ctx, h, path, want)
		return "GET " + path, err
	})
	return desc, body, err
}

// Config reads a small blob whole and verifies it.
func (s *Session) Config(ctx context.Context, want digest.Digest) (body []byte, err error) {
	err = s.each(ctx, pulls, "config "+want.String(), func(ctx context.Context, h *host) (string, error) {
		path := "blobs/" + want.String()
		resp, err := s.send(ctx, h, http.MethodGet, path, nil)
		if err != nil {
			return "GET " + path, err
		}
		defer drain(resp.Body)
		if resp.StatusCode != http.StatusOK {
			return "GET " + path, newStatusError(resp)
		}
		if body, err = readAll(resp.Body, MaxConfig); err != nil {
			return "GET " + path, err
		}
		if got := digest.FromBytes(body); got != want {
			return "GET " + path, fmt.Errorf("the config's digest is %s: %w", got, errdefs.ErrDataLoss)
		}
		return "GET " + path, nil
	})
	return body, err
}
