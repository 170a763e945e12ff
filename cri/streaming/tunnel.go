package streaming

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/websocket"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// tunnel gives a handler of SPDY requests what comes through a WebSocket: the
// subprotocol "SPDY/3.1+portforward.k8s.io" of clients behind proxies that know
// no SPDY.
func tunnel(w http.ResponseWriter, req *http.Request, handle http.HandlerFunc) {
	websocket.Server{
		Handshake: func(c *websocket.Config, _ *http.Request) error {
			if !slices.Contains(c.Protocol, portforward.WebsocketsSPDYTunnelingPortForwardV1) {
				return errors.New("no subprotocol that is known")
			}
			c.Protocol = []string{portforward.WebsocketsSPDYTunnelingPortForwardV1}
			return nil
		},
		Handler: func(ws *websocket.Conn) {
			ws.PayloadType = websocket.BinaryFrame
			inside := req.Clone(req.Context())
			for name := range inside.Header {
				if strings.HasPrefix(name, "Sec-Websocket-") {
					inside.Header.Del(name)
				}
			}
			inside.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
			inside.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
			inside.Header.Set(httpstream.HeaderProtocolVersion, portforward.ProtocolV1Name)
			handle(&tunnelWriter{ws, http.Header{}}, inside)
		},
	}.ServeHTTP(w, req)
}

// tunnelWriter answers a request of which both sides know that it is granted: it
// says nothing, and is hijacked.
type tunnelWriter struct {
	ws     *websocket.Conn
	header http.Header
}

func (t *tunnelWriter) Header() http.Header         { return t.header }
func (t *tunnelWriter) WriteHeader(int)             {}
func (t *tunnelWriter) Write(b []byte) (int, error) { return len(b), nil }

// Hijack is http.Hijacker.
func (t *tunnelWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return t.ws, bufio.NewReadWriter(bufio.NewReader(t.ws), bufio.NewWriter(t.ws)), nil
}
