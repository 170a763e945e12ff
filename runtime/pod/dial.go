package pod

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/berth-cri/berth/cni/netns"
	"github.com/berth-cri/berth/linux/namespace"
	"github.com/containerd/errdefs"
)

// dialLimit bounds a connection attempt: within a pod nothing is far away, but
// its rules may drop packets.
const dialLimit = 10 * time.Second

// Dial connects to a TCP port on the pod's own loopback device, over IPv4 and, when
// nobody listens there, over IPv6. ErrFailedPrecondition when the pod does not
// run; ErrUnavailable when it does not answer.
func (s *Service) Dial(ctx context.Context, id string, port uint16) (*net.TCPConn, error) {
	p, err := s.Get(id)
	if err != nil {
		return nil, err
	}
	if err := p.CheckReady("forward ports"); err != nil {
		return nil, err
	}
	path := p.Namespace(namespace.Net)
	if path == "" {
		return dial(ctx, port)
	}
	var conn *net.TCPConn
	err = netns.Do(path, func() (err error) {
		conn, err = dial(ctx, port) // the socket belongs where it was made
		return err
	})
	return conn, err
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
