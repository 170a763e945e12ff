package registry

import (
	"cmp"
	"fmt"
	"net/url"
	"time"

	"github.com/berth-cri/berth/imageservice/reference"
	"github.com/containerd/errdefs"
)

const userAgent = "berth"

// Options of a Client; the zero value is what a node uses, but for HostsDir.
type Options struct {
	HostsDir string // a certs.d directory; empty: every registry by its default

	// Retries is how often a request is repeated that failed for a reason
	// which may pass: 5 by default. The first pause is Pause (300 ms), each
	// further one twice as long, or what Retry-After says, up to 30 s.
	Retries int
	Pause   time.Duration

	// Stall is how long a connection may bring nothing before it is given up
	// for a new one: 1 minute.
	Stall time.Duration
}

// Client holds the configuration and connections of all registries.
type Client struct {
	opts  Options
	hosts hosts
}

// New returns a Client; Close ends its idle connections.
func New(opts Options) *Client {
	opts.Retries = cmp.Or(opts.Retries, 5)
	opts.Pause = cmp.Or(opts.Pause, 300*time.Millisecond)
	opts.Stall = cmp.Or(opts.Stall, time.Minute)
	return &Client{opts: opts, hosts: hosts{dir: opts.HostsDir}}
}

func (c *Client) Close() { c.hosts.close() }

// Open begins a session with the registry of an image: it reads the
// configuration and checks the credentials' form, without a request yet.
func (c *Client) Open(ref reference.Reference, auth *Auth) (*Session, error) {
	cred, err := auth.credential()
	if err != nil {
		return nil, err
	}
	endpoints, err := c.hosts.lookup(ref.Registry)
	if err != nil {
		return nil, err
	}
	s := &Session{ref: ref, opts: c.opts}
	for _, e := range endpoints {
		h := &host{endpoint: e, label: cred.String()}
		h.auth = newAuthorizer(e, "repository:"+ref.Repository+":pull")
		if cred.allows(e, ref.Registry) {
			h.auth.cred = cred
		} else if !cred.anonymous() {
			h.label = fmt.Sprintf("anonymous, as server_address is %s", cred.server)
		}
		if e.mirror {
			h.query = "?ns=" + url.QueryEscape(ref.Registry)
		}
		s.hosts = append(s.hosts, h)
	}
	if !s.can(resolves) && ref.Digest == "" || !s.can(pulls) {
		return nil, fmt.Errorf("registry configuration of %s: no endpoint has the capabilities pull and resolve: %w", ref.Registry, errdefs.ErrFailedPrecondition)
	}
	return s, nil
}
