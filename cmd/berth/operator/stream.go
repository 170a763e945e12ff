package operator

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"sync"

	"golang.org/x/net/websocket"
)

// The channels of v5.channel.k8s.io: the first byte of each message. It is what
// the kubelet and kubectl speak; client-go's implementation would bring its REST
// client and all types of the Kubernetes API into the daemon's program.
const (
	protocol      = "v5.channel.k8s.io"
	channelStdin  = 0
	channelStdout = 1
	channelStderr = 2
	channelError  = 3
	channelResize = 4
	channelClose  = 255 // followed by the channel that ends
)

// maxStreamMessage bounds a message of the server; it sends 32 KiB at a time.
const maxStreamMessage = 16 << 20

// streams are this side's ends of a command; nil ones are not connected.
type streams struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	resize         <-chan terminalSize
}

// terminalSize has the names of the protocol.
type terminalSize struct{ Width, Height uint16 }

// stream connects the streams to what is served at an address, until the command
// there ends. Its exit code comes as an ExitError.
func stream(ctx context.Context, address string, s streams) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("the daemon's streaming address: %w", err)
	}
	origin := *u
	u.Scheme = map[string]string{"http": "ws", "https": "wss"}[u.Scheme]
	c := &websocket.Config{Location: u, Origin: &origin, Version: websocket.ProtocolVersionHybi13, Protocol: []string{protocol}}
	// The address came from the daemon itself, with a token in it; its
	// certificate is by default one that it made up.
	c.TlsConfig = &tls.Config{InsecureSkipVerify: true}
	ws, err := c.DialContext(ctx)
	if err != nil {
		return fmt.Errorf("connect to the daemon's streaming server: %w", err)
	}
	ws.PayloadType = websocket.BinaryFrame
	ws.MaxPayloadBytes = maxStreamMessage
	defer ws.Close()
	defer context.AfterFunc(ctx, func() { ws.Close() })()
	up := &upstream{ws: ws}
	if s.stdin != nil {
		go up.input(s.stdin)
	}
	if s.resize != nil {
		go func() {
			for size := range s.resize {
				b, _ := json.Marshal(size)
				if up.send(channelResize, b) != nil {
					return
				}
			}
		}()
	}
	err = receive(ws, s)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// upstream sends messages, one at a time.
type upstream struct {
	mu sync.Mutex
	ws *websocket.Conn
}

func (u *upstream) send(channel byte, b []byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return websocket.Message.Send(u.ws, append([]byte{channel}, b...))
}

func (u *upstream) input(r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 && u.send(channelStdin, buf[:n]) != nil {
			return
		}
		if err != nil {
			_ = u.send(channelClose, []byte{channelStdin})
			return
		}
	}
}

// receive writes what comes until the outcome does.
func receive(ws *websocket.Conn, s streams) error {
	for {
		var m []byte
		if err := websocket.Message.Receive(ws, &m); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("the connection to the command broke: %w", err)
		}
		if len(m) < 2 {
			continue // says that a channel is open
		}
		switch body := m[1:]; m[0] {
		case channelStdout:
			if err := write(s.stdout, body); err != nil {
				return err
			}
		case channelStderr:
			if err := write(s.stderr, body); err != nil {
				return err
			}
		case channelError:
			return outcome(body)
		}
	}
}

func write(w io.Writer, b []byte) error {
	if w == nil {
		return nil
	}
	_, err := w.Write(b)
	return err
}

// outcome reads the metav1.Status that ends an exec.
func outcome(b []byte) error {
	var status struct {
		Status, Message, Reason string
		Details                 struct {
			Causes []struct{ Reason, Message string }
		}
	}
	if err := json.Unmarshal(b, &status); err != nil {
		return fmt.Errorf("the outcome of the command: %w", err)
	}
	if status.Status == "Success" {
		return nil
	}
	if status.Reason == "NonZeroExitCode" {
		for _, c := range status.Details.Causes {
			if code, err := strconv.Atoi(c.Message); c.Reason == "ExitCode" && err == nil {
				return &ExitError{code}
			}
		}
	}
	return errors.New(status.Message)
}
