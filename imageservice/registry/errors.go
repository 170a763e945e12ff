package registry

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	crierrors "k8s.io/cri-api/pkg/errors"
)

// Error is what all endpoints of a registry together answered.
type Error struct {
	Request  string // "manifest of docker.io/library/busybox:latest"
	Attempts []Attempt
	kind     error
}

// Error names each endpoint with its last answer.
func (e *Error) Error() string {
	var parts []string
	for i, a := range e.Attempts {
		if i+1 < len(e.Attempts) && e.Attempts[i+1].Endpoint == a.Endpoint {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s (%s): %s", a.Endpoint, a.Credential, a.Answer))
	}
	return e.Request + ": " + strings.Join(parts, "; ")
}

// Unwrap gives the kind only. The causes are text by now on purpose: a dial
// that timed out says that it is context.DeadlineExceeded, which would make
// the client's deadline out of a registry that is down.
func (e *Error) Unwrap() error { return e.kind }

// unavailable is the kind of a registry that gives no answer.
var unavailable = errors.Join(crierrors.ErrRegistryUnavailable, errdefs.ErrUnavailable)

// statusError is an HTTP answer that is not the one hoped for.
type statusError struct {
	status     int
	detail     string // from the body
	retryAfter time.Duration
}

func (e *statusError) Error() string {
	s := fmt.Sprintf("%d %s", e.status, http.StatusText(e.status))
	if e.detail != "" {
		s += ": " + e.detail
	}
	return s
}

func (e *statusError) Unwrap() error {
	switch {
	case e.status == http.StatusUnauthorized:
		return errdefs.ErrUnauthenticated
	case e.status == http.StatusForbidden:
		return errdefs.ErrPermissionDenied
	case e.status == http.StatusNotFound:
		return errdefs.ErrNotFound
	case e.status == http.StatusTooManyRequests:
		return errdefs.ErrResourceExhausted
	case e.status == http.StatusRequestTimeout, e.status >= 500:
		return unavailable
	}
	return errdefs.ErrUnknown
}

// maxErrorBody and maxErrorText bound what a registry may put into our errors.
const (
	maxErrorBody = 64 << 10
	maxErrorText = 400
)

func newStatusError(resp *http.Response) *statusError {
	e := &statusError{status: resp.StatusCode}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s >= 0 {
		e.retryAfter = time.Duration(min(s, 1<<20)) * time.Second
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		return e
	}
	var doc struct {
		Errors []struct{ Code, Message string } `json:"errors"`
	}
	if json.Unmarshal(body, &doc) == nil && len(doc.Errors) > 0 {
		var parts []string
		for _, d := range doc.Errors {
			parts = append(parts, strings.TrimSuffix(strings.TrimSpace(d.Code+": "+d.Message), ":"))
		}
		e.detail = clip(strings.Join(parts, ", "))
	} else if t := resp.Header.Get("Content-Type"); !strings.Contains(t, "html") {
		e.detail = clip(string(body))
	}
	return e
}

// clip makes one short printable line out of foreign text.
func clip(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
	if len(s) > maxErrorText {
		s = strings.ToValidUTF8(s[:maxErrorText], "") + "…"
	}
	return s
}

// linkError is a failure below HTTP.
type linkError struct {
	err  error
	kind error
}

func (e *linkError) Error() string { return e.err.Error() }
func (e *linkError) Unwrap() error { return e.kind }

// transportError says what a failed exchange means.
func transportError(err error) error {
	// *url.Error repeats the URL, whose query may hold a signature.
	var u *url.Error
	for errors.As(err, &u) {
		err = u.Err
	}
	var kinded *linkError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &kinded), errdefs.IsPermissionDenied(err), errdefs.IsUnknown(err):
		return err // from a redirect check
	case errors.Is(err, http.ErrSchemeMismatch):
		return &linkError{fmt.Errorf("%w (write http:// before the host in hosts.toml if that is meant)", err), errdefs.ErrFailedPrecondition}
	case errors.As(err, &cert):
		return &linkError{fmt.Errorf("%w (set ca or skip_verify in hosts.toml if that is meant)", err), errdefs.ErrFailedPrecondition}
	}
	return &linkError{err, unavailable}
}

var errStalled = errors.New("no byte arrived for too long")

// temporary reports whether the same endpoint may do better a moment later.
func temporary(err error) bool {
	var s *statusError
	if errors.As(err, &s) {
		return s.status == http.StatusRequestTimeout || s.status == http.StatusTooManyRequests || s.status >= 500 && s.status != http.StatusNotImplemented
	}
	var l *linkError
	if !errors.As(err, &l) || l.kind != unavailable {
		return false
	}
	// Who refuses a connection or has no name will not change within seconds.
	return !isDialError(l.err)
}

func isDialError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect")
}

// contextError returns the reason for which the caller's context ended, if it did.
func contextError(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}

func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, transportError(err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("more than %d bytes: %w", limit, errdefs.ErrResourceExhausted)
	}
	return b, nil
}

// drain lets the connection be used again, unless the rest is long.
func drain(body io.ReadCloser) {
	io.CopyN(io.Discard, body, 64<<10)
	body.Close()
}
