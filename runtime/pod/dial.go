package pod

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/berth-cri/berth/cni/netns"
	"github.com/berth-cri/berth/linux/namespace"
	"github.com/containerd/errdefs"
)

// dialLimit bounds a connection attempt: within a pod nothing is far away, but
// its rules may drop packets.
const dialLimit = 10 * time.Second

// Dial connects to a TCP port on the pod's own loopback device, over IPv4 and, when
// nobody listens there, over IPv6. The connection is closed when the context ends
// and when the pod stops. ErrFailedPrecondition when the pod does not run;
// ErrUnavailable when it does not answer.
func (s *Service) Dial(ctx context.Context, id string, port uint16) (*net.TCPConn, error) {
	p, err := s.Get(id)
	if err != nil {
		return nil, err
	}
	if err := p.CheckReady("forward ports"); err != nil {
		return nil, err
	}
	var conn *net.TCPConn
	connect := func() (err error) {
		conn, err = dial(ctx, port) // the socket belongs where it was made
		return err
	}
	if path := p.Namespace(namespace.Net); path != "" {
		err = netns.Do(path, connect)
	} else {
		err = connect()
	}
	if err != nil {
		return nil, err
	}
	if !p.calls.add(ctx, conn) {
		return nil, p.CheckReady("forward ports")
	}
	return conn, nil
}

// CheckReady refuses an event that needs the pod's namespaces.
func (p *Pod) CheckReady(e Event) error {
	if st := p.Record().State; st != Ready {
		return &TransitionError{From: st, Event: e}
	}
	return nil
}

// dial tries one address after the other, on this thread: for "localhost" Go would
// try both at once, from threads in another namespace.
func dial(ctx context.Context, port uint16) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: dialLimit}
	connect := func(address string) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(int(port))))
	}
	conn, err := connect("127.0.0.1")
	if err != nil {
		var err6 error
		if conn, err6 = connect("::1"); err6 != nil {
			return nil, fmt.Errorf("%w; %w: %w", err, err6, errdefs.ErrUnavailable)
		}
	}
	return conn.(*net.TCPConn), nil
}

// calls are the open connections to a pod.
type calls struct {
	mu   sync.Mutex // guards what follows
	open map[*net.TCPConn]struct{}
	over bool
}

// add keeps a connection until the context ends; false, and the connection is
// closed, when the pod has stopped.
func (c *calls) add(ctx context.Context, conn *net.TCPConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		conn.Close()
		return false
	}
	if c.open == nil {
		c.open = map[*net.TCPConn]struct{}{}
	}
	c.open[conn] = struct{}{}
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.open, conn)
		conn.Close()
	})
	return true
}

// hangUp closes all connections, and each that comes later.
func (c *calls) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	for conn := range c.open {
		conn.Close()
	}
}
