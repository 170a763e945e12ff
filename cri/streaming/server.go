package streaming

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-cri/berth/runtime/container"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// closeLimit is what clients get to hear that the daemon stops.
const closeLimit = 3 * time.Second

// Containers is what exec and attach need.
type Containers interface {
	Exec(ctx context.Context, id string, args []string, terminal bool, client container.Streams) (code int, err error)
	AttachClient(ctx context.Context, id string, client container.Streams) error
}

// Pods is what port-forward needs: a connection that ends with the context.
type Pods interface {
	Dial(ctx context.Context, pod string, port uint16) (*net.TCPConn, error)
}

// Options of a Server.
type Options struct {
	Address         netip.AddrPort // port 0: any
	TLS             *tls.Config    // nil: none
	IdleTimeout     time.Duration  // 0: none; of the beginning
	CreationTimeout time.Duration
	Containers      Containers
	Pods            Pods
	Log             *slog.Logger
}

// Server streams.
type Server struct {
	Options
	idle     atomic.Int64    // SetIdleTimeout
	ctx      context.Context // of everything that is streamed
	cancel   context.CancelCauseFunc
	listener net.Listener
	http     *http.Server
	base     url.URL
	tokens   tokens

	mu    sync.Mutex // guards what follows
	conns map[*conn]struct{}
}

// Listen takes the address. Serve serves.
func Listen(o Options) (*Server, error) {
	l, err := net.Listen("tcp", o.Address.String())
	if err != nil {
		return nil, fmt.Errorf("listen for streams: %w", err)
	}
	redirectLog(o.Log)
	s := &Server{Options: o, listener: l, tokens: tokens{granted: map[string]grant{}}, conns: map[*conn]struct{}{}}
	s.SetIdleTimeout(o.IdleTimeout)
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.base = url.URL{Scheme: "http", Host: reachable(l.Addr().(*net.TCPAddr)).String()}
	if o.TLS != nil {
		s.base.Scheme = "https"
	}
	mux := http.NewServeMux()
	for pattern, handler := range map[string]http.HandlerFunc{
		"/exec/{token}": s.exec, "/attach/{token}": s.attach, "/portforward/{token}": s.portForward,
	} {
		mux.HandleFunc("GET "+pattern, handler)
		mux.HandleFunc("POST "+pattern, handler)
	}
	s.http = &http.Server{
		Handler:           mux,
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return inner(c).begin(ctx) },
		ConnState:         noteHijack,
		ReadHeaderTimeout: o.CreationTimeout,
		IdleTimeout:       o.CreationTimeout,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		Protocols:         &http.Protocols{}, // HTTP/2 cannot be upgraded
	}
	s.http.Protocols.SetHTTP1(true)
	return s, nil
}

// SetIdleTimeout changes it for streams that begin from now on.
func (s *Server) SetIdleTimeout(d time.Duration) { s.idle.Store(int64(d)) }

func (s *Server) idleTimeout() time.Duration { return time.Duration(s.idle.Load()) }

// reachable is an address for clients on this machine.
func reachable(a *net.TCPAddr) netip.AddrPort {
	ip := a.AddrPort().Addr().Unmap()
	switch {
	case ip == netip.IPv4Unspecified():
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case ip == netip.IPv6Unspecified():
		ip = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(ip, uint16(a.Port))
}

// Serve answers until Close.
func (s *Server) Serve() error {
	var l net.Listener = listener{s.listener.(*net.TCPListener), s}
	if s.TLS != nil {
		l = tls.NewListener(l, s.TLS)
	}
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve streams: %w", err)
	}
	return nil
}

// Close ends all streams: each client is told that the daemon stops.
func (s *Server) Close() {
	s.cancel(container.ErrDaemonStops)
	s.listener.Close() // also if Serve was never called
	s.http.Close()
	limit, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	s.mu.Lock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		select {
		case <-c.done:
		case <-limit.Done():
			c.TCPConn.Close()
		}
	}
}

// Exec grants a stream; the request must be valid. The client gets its URL.
func (s *Server) Exec(r *runtimeapi.ExecRequest) (string, error) { return s.grant("exec", r) }

// Attach grants a stream.
func (s *Server) Attach(r *runtimeapi.AttachRequest) (string, error) { return s.grant("attach", r) }

// PortForward grants a stream.
func (s *Server) PortForward(r *runtimeapi.PortForwardRequest) (string, error) {
	return s.grant("portforward", r)
}

func (s *Server) grant(what string, request any) (string, error) {
	token, err := s.tokens.add(request)
	if err != nil {
		return "", err
	}
	return s.base.JoinPath(what, token).String(), nil
}

// listener makes conns.
type listener struct {
	*net.TCPListener
	server *Server
}

func (l listener) Accept() (net.Conn, error) {
	tcp, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	s := l.server
	c := &conn{TCPConn: tcp, done: make(chan struct{}), forget: s.forget}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	return c, nil
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// begin gives the connection its context, before anything is read.
func (c *conn) begin(ctx context.Context) context.Context {
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	return context.WithValue(c.ctx, connKey{}, c)
}

// inner is the connection below TLS.
func inner(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.(*conn)
}

func noteHijack(c net.Conn, state http.ConnState) {
	if state == http.StateHijacked {
		inner(c).hijacked.Store(true)
	}
}
