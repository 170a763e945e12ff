package streaming

import (
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"testing"

	"golang.org/x/net/websocket"
)

// v5 reads a stream over a WebSocket to its end and returns what came on the
// error channel.
func v5(t *testing.T, url string) string {
	cfg, err := websocket.NewConfig("ws"+url[len("http"):], "http://localhost")
	if err != nil {
		t.Error(err)
		return ""
	}
	cfg.Protocol = []string{"v5.channel.k8s.io"}
	ws, err := websocket.DialConfig(cfg)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer ws.Close()
	var heard string
	for {
		var frame []byte
		if websocket.Message.Receive(ws, &frame) != nil {
			return heard
		}
		if len(frame) > 0 && frame[0] == 3 {
			heard += string(frame[1:])
		}
	}
}

// pemPair makes a certificate as files have it.
func pemPair(t *testing.T) (der, cert, key []byte) {
	t.Helper()
	made, err := selfSigned(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	der = made.Certificate[0]
	return der, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}
