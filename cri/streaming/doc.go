// Package streaming serves the streams of exec, attach and port-forward to the
// kubelet, over HTTP connections that are upgraded to SPDY or WebSocket.
//
// Owns: the listener; the tokens, each good for one stream within a minute; the
// connections of clients.
//
// The protocols are those of k8s.io/cri-streaming: SPDY with the subprotocols v1
// to v4, and WebSocket with channel.k8s.io up to v4. On top of them come two that
// clients of today ask for and that it does not have: WebSocket v5, where the
// end of standard input can be told, and SPDY within a WebSocket for port-forward.
// Its server is not used: it cannot tell its address before it serves, and
// neither of the two can be added to it.
//
// Always true:
//   - What a client started ends with its connection: the context of a request
//     ends when the client goes, also while what it has sent waits to be read.
//   - A connection is closed only after the client could read the last word: the
//     kernel drops what it has not delivered when something unread is left.
//   - When the daemon stops, each client is told so before its connection ends.
//
// May import: runtime/container, k8s.io/cri-streaming, k8s.io/streaming, net/http,
// golang.org/x/net/websocket.
package streaming
