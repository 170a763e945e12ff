package streaming

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

func (s *Server) portForward(w http.ResponseWriter, req *http.Request) {
	r, ok := s.tokens.take(req.PathValue("token")).(*runtimeapi.PortForwardRequest)
	if !ok {
		http.NotFound(w, req)
		return
	}
	defer finish(req)
	serve := func(w http.ResponseWriter, req *http.Request) {
		portforward.ServePortForward(w, req, &forwarder{s, req.Context()}, r.PodSandboxId, "",
			&portforward.V4Options{Ports: r.Port}, s.idleTimeout(), s.CreationTimeout, portforward.SupportedProtocols)
	}
	if wsstream.IsWebSocketRequestWithTunnelingProtocol(req) {
		tunnel(w, req, serve)
		return
	}
	serve(w, req)
}

// forwarder forwards the ports of one connection.
type forwarder struct {
	server *Server
	ctx    context.Context // of the connection: the library gives none
}

// PortForward is portforward.PortForwarder. An error ends the client's whole
// connection (client-go closes it when the error stream says something), so only
// a port that nobody listens on is one: a peer that resets its connection ends
// one stream (k8s#74551).
func (f *forwarder) PortForward(_ context.Context, pod, _ string, port int32, stream io.ReadWriteCloser) error {
	if _, ok := stream.(spdyStream); ok {
		// Waits until the client was told that the stream is open. A reset that
		// overtakes this would hide why from it.
		stream.Write(nil)
	}
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel() // closes the connection
	peer, err := f.server.Pods.Dial(ctx, pod, uint16(port))
	if err != nil {
		return err
	}
	t := &transfer{peer: peer, stream: stream}
	if err := t.run(); err != nil {
		f.server.Log.Debug("port-forward", "pod", pod, "port", port, "error", err)
	}
	return nil
}

// transfer moves the data of one forwarded connection.
type transfer struct {
	peer   *net.TCPConn // in the pod
	stream io.ReadWriteCloser
	closed atomic.Bool // we have told the client that nothing more comes
}

// run moves both ways until both ends have said that they are done, or one of
// them has gone; then the other is told by a reset.
func (t *transfer) run() error {
	asked := make(chan error, 1)
	go func() {
		err := t.toPeer()
		asked <- err
		if err != nil {
			io.Copy(io.Discard, t.stream) // or it would hold up the client's other streams
		}
	}()
	err := t.fromPeer()
	if err == nil && t.half() {
		err = <-asked
	}
	if errors.Is(err, errReset) {
		t.peer.SetLinger(0)
	}
	t.reset()
	return err
}

var errReset = errors.New("the client reset its stream")

// fromPeer copies until the peer has said everything, and then says so.
func (t *transfer) fromPeer() error {
	buf := make([]byte, 32<<10)
	for {
		n, err := t.peer.Read(buf)
		if t.wasReset() {
			return errReset
		}
		if n > 0 {
			if _, err := t.stream.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			if t.half() {
				t.closed.Store(true)
				t.stream.Close()
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// toPeer copies until the client has said everything, and then says so. (A client
// that resets its stream after that says nothing of it, in SPDY.)
func (t *transfer) toPeer() error {
	if _, err := io.Copy(t.peer, t.stream); err != nil {
		return err
	}
	if t.wasReset() {
		t.peer.SetLinger(0)
		t.peer.Close()
		return errReset
	}
	t.peer.CloseWrite()
	return nil
}

// spdyStream is what a stream of SPDY has. That of a plain WebSocket has no end
// of its own in either direction.
type spdyStream interface {
	Reset() error
	IsFinished() bool // closed by us, or reset by either side
}

// half says whether the stream can be closed in one direction.
func (t *transfer) half() bool {
	_, ok := t.stream.(spdyStream)
	return ok
}

func (t *transfer) wasReset() bool {
	s, ok := t.stream.(spdyStream)
	return ok && s.IsFinished() && !t.closed.Load()
}

func (t *transfer) reset() {
	if s, ok := t.stream.(spdyStream); ok {
		s.Reset()
	}
}
