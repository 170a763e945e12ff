package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/berth-cri/berth/cni/netns"
)

// dialers make a connection that ports are forwarded over.
var dialers = map[string]func(u *url.URL) (httpstream.Dialer, error){
	"SPDY": func(u *url.URL) (httpstream.Dialer, error) {
		transport, upgrader, err := spdy.RoundTripperFor(insecureTLS)
		if err != nil {
			return nil, err
		}
		return spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, "POST", u), nil
	},
	"WebSocket": func(u *url.URL) (httpstream.Dialer, error) {
		return portforward.NewSPDYOverWebsocketDialerForStreaming(u, insecureTLS)
	},
}

func (n *node) portForwardURL(pod string) *url.URL {
	n.t.Helper()
	r, err := n.rt.PortForward(n.ctx(), &runtimeapi.PortForwardRequest{PodSandboxId: pod})
	if err != nil {
		n.t.Fatal(err)
	}
	u, err := url.Parse(r.Url)
	if err != nil {
		n.t.Fatal(err)
	}
	return u
}

// forward is kubectl port-forward: it returns the address that leads to the pod's
// port, and a channel that tells when the whole of it ends.
func (n *node) forward(transport, pod string, port int) (address string, lost <-chan error) {
	n.t.Helper()
	d, err := dialers[transport](n.portForwardURL(pod))
	if err != nil {
		n.t.Fatal(err)
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	n.t.Cleanup(func() { close(stop) })
	f, err := portforward.NewOnAddressesForStreaming(d, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", port)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- f.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-ended:
		n.t.Fatalf("forward: %v", err)
	}
	ports, err := f.GetPorts()
	if err != nil {
		n.t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(ports[0].Local))), ended
}

// streams opens one forwarded connection by hand, to say what client-go does not.
func (n *node) streams(c httpstream.Connection, id, port int) (data, errs httpstream.Stream) {
	n.t.Helper()
	h := http.Header{}
	h.Set("streamType", "error")
	h.Set("port", strconv.Itoa(port))
	h.Set("requestID", strconv.Itoa(id))
	errs, err := c.CreateStream(h)
	if err == nil {
		errs.Close()
		h.Set("streamType", "data")
		data, err = c.CreateStream(h)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return data, errs
}

// peer listens on the loopback device of a pod (of the node for none) and serves
// each connection.
func (n *node) peer(pod, network, address string, serve func(*net.TCPConn)) (port int) {
	n.t.Helper()
	var l net.Listener
	listen := func() (err error) {
		l, err = net.Listen(network, address)
		return err
	}
	err := error(nil)
	if pod == "" {
		err = listen()
	} else {
		err = netns.Do(n.path("state/pods", pod, "ns/net"), listen)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { l.Close() })
	port = l.Addr().(*net.TCPAddr).Port
	if c, err := net.Dial("tcp4", fmt.Sprint("127.0.0.1:", port)); pod == "" && network == "tcp6" && err == nil {
		c.Close() // somebody on this machine has the port over IPv4, which comes first
		return n.peer(pod, network, address, serve)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return port
}

// echo repeats all that it hears and closes after the end of it.
func echo(c *net.TCPConn) { io.Copy(c, c) }

// ask sends text, says that this is all, and returns the answer.
func (n *node) ask(address, text string) string {
	n.t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(callLimit))
	io.WriteString(c, text)
	c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	if err != nil {
		n.t.Errorf("answer: %v", err)
	}
	return string(b)
}

func TestStreamPortForward(t *testing.T) {
	n := newNode(t)
	pod := n.pod(n.podConfig("ports"))
	host := n.pod(n.podConfig("host", hostNetwork))
	for transport := range dialers {
		n.sub(transport, func(n *node) {
			for name, tc := range map[string]struct{ pod, inside, network, address string }{
				"IPv4":              {pod, pod, "tcp4", "127.0.0.1:0"},
				"IPv6":              {pod, pod, "tcp6", "[::1]:0"},
				"any":               {pod, pod, "tcp", ":0"},
				"host network":      {host, "", "tcp4", "127.0.0.1:0"},
				"host network IPv6": {host, "", "tcp6", "[::1]:0"},
			} {
				port := n.peer(tc.inside, tc.network, tc.address, echo)
				address, _ := n.forward(transport, tc.pod, port)
				for i := range 3 {
					if got := n.ask(address, fmt.Sprint("hello ", i)); got != fmt.Sprint("hello ", i) {
						n.t.Errorf("%s: %q", name, got)
					}
				}
			}
			// A port of the node is none of the pod's.
			address, lost := n.forward(transport, pod, n.peer("", "tcp4", "127.0.0.1:0", echo))
			c, err := net.Dial("tcp", address)
			if err != nil {
				n.t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, "hello")
			if b, _ := io.ReadAll(c); len(b) > 0 {
				n.t.Errorf("a port of the node answered: %q", b)
			}
			<-lost // what client-go makes of "connection refused"
		})
	}
}

// Each side may end its own direction first, and the other goes on.
func TestStreamPortForwardHalfClosed(t *testing.T) {
	n := newNode(t)
	pod := n.pod(n.podConfig("half"))
	// Speaks first, says that it has ended, and listens on.
	heard := make(chan string, 10)
	greets := n.peer(pod, "tcp4", "127.0.0.1:0", func(c *net.TCPConn) {
		io.WriteString(c, "greeting")
		c.CloseWrite()
		b, err := io.ReadAll(c)
		heard <- fmt.Sprintf("%s %v", b, err)
	})
	// Listens to the end, and only then answers.
	listens := n.peer(pod, "tcp4", "127.0.0.1:0", func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		time.Sleep(100 * time.Millisecond)
		fmt.Fprintf(c, "heard %s", b)
	})
	for transport := range dialers {
		address, _ := n.forward(transport, pod, listens)
		if got := n.ask(address, "question"); got != "heard question" {
			t.Errorf("%s: the client ends first: %q", transport, got)
		}
		d, err := dialers[transport](n.portForwardURL(pod))
		if err != nil {
			t.Fatal(err)
		}
		c, _, err := d.Dial("portforward.k8s.io")
		if err != nil {
			t.Fatal(err)
		}
		data, errs := n.streams(c, 1, greets)
		if b, err := io.ReadAll(data); string(b) != "greeting" || err != nil {
			t.Errorf("%s: %q %v", transport, b, err)
		}
		io.WriteString(data, "a late ")
		time.Sleep(100 * time.Millisecond)
		io.WriteString(data, "answer")
		data.Close()
		if got := <-heard; got != "a late answer <nil>" {
			t.Errorf("%s: the peer ends first, and hears: %q", transport, got)
		}
		if b, _ := io.ReadAll(errs); len(b) > 0 {
			t.Errorf("%s: error: %s", transport, b)
		}
		c.Close()
	}
}

// A peer that resets, a client that resets, and a port that nobody listens on end
// one stream each; what goes on beside them, over the same connection, goes on.
func TestStreamPortForwardReset(t *testing.T) {
	n := newNode(t)
	pod := n.pod(n.podConfig("reset"))
	good := n.peer(pod, "tcp4", "127.0.0.1:0", echo)
	resets := n.peer(pod, "tcp4", "127.0.0.1:0", func(c *net.TCPConn) {
		c.Read(make([]byte, 10))
		c.SetLinger(0)
	})
	deaf := make(chan error, 10)
	listens := n.peer(pod, "tcp4", "127.0.0.1:0", func(c *net.TCPConn) {
		io.WriteString(c, "x")
		_, err := io.Copy(io.Discard, c)
		deaf <- err
	})
	for transport := range dialers {
		// Over client-go, which closes the connection at the first word of an error.
		address, lost := n.forward(transport, pod, resets)
		for range 5 {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, "hello")
			if b, _ := io.ReadAll(c); len(b) > 0 {
				t.Errorf("%s: %q", transport, b)
			}
			c.Close()
		}
		select {
		case err := <-lost:
			t.Errorf("%s: a peer's resets ended all: %v", transport, err)
		default:
		}

		d, err := dialers[transport](n.portForwardURL(pod))
		if err != nil {
			t.Fatal(err)
		}
		c, _, err := d.Dial("portforward.k8s.io")
		if err != nil {
			t.Fatal(err)
		}
		steady, _ := n.streams(c, 0, good)
		say := func(text string) {
			t.Helper()
			io.WriteString(steady, text)
			b := make([]byte, len(text))
			if _, err := io.ReadFull(steady, b); err != nil || string(b) != text {
				t.Errorf("%s: %q %v", transport, b, err)
			}
		}
		say("before")
		for i := 1; i < 60; i += 3 {
			data, _ := n.streams(c, i, resets)
			data.Write(make([]byte, 1<<20)) // more than the peer takes
			if b, err := io.ReadAll(data); len(b) > 0 || err != nil {
				t.Errorf("%s: %q %v", transport, b, err)
			}
			say("after a peer's reset")

			data, errs := n.streams(c, i+1, 1)
			if b, _ := io.ReadAll(errs); !strings.Contains(string(b), "connection refused") {
				t.Errorf("%s: nobody listens: %q", transport, b)
			}
			data.Write(make([]byte, 1<<20))
			say("after a port that nobody listens on")

			data, _ = n.streams(c, i+2, listens)
			data.Read(make([]byte, 1))
			data.Reset()
			if err := <-deaf; !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("%s: the client reset, the peer heard: %v", transport, err)
			}
			say("after a client's reset")
		}
		c.Close()
	}
}

// A hundred MiB each way over each of two connections at once.
func TestStreamPortForwardMuch(t *testing.T) {
	n := newNode(t)
	pod := n.pod(n.podConfig("much"))
	port := n.peer(pod, "tcp4", "127.0.0.1:0", echo)
	for transport := range dialers {
		address, _ := n.forward(transport, pod, port)
		results := make(chan error, 2)
		for i := range 2 {
			go func() { results <- mirror(address, byte(i)) }()
		}
		for range 2 {
			if err := <-results; err != nil {
				t.Errorf("%s: %v", transport, err)
			}
		}
	}
}

// mirror sends a hundred MiB to an echo and compares what comes back.
func mirror(address string, seed byte) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	sent, got := sha256.New(), sha256.New()
	go func() {
		random := rand.NewChaCha8([32]byte{seed})
		block := make([]byte, 1<<20)
		for range 100 {
			random.Read(block)
			sent.Write(block)
			c.Write(block)
		}
		c.(*net.TCPConn).CloseWrite()
	}()
	n, err := io.Copy(got, c)
	if err == nil && (n != 100<<20 || !bytes.Equal(sent.Sum(nil), got.Sum(nil))) {
		err = fmt.Errorf("%d bytes came back, others than were sent", n)
	}
	return err
}

// The end of a client's connection is the end of all that it had forwarded.
func TestStreamPortForwardDisconnect(t *testing.T) {
	n := newNode(t)
	pod := n.pod(n.podConfig("gone"))
	var open atomic.Int32
	port := n.peer(pod, "tcp4", "127.0.0.1:0", func(c *net.TCPConn) {
		open.Add(1)
		defer open.Add(-1)
		c.Write([]byte("x"))
		for { // and never says more
			if _, err := c.Read(make([]byte, 1)); err != nil {
				return
			}
		}
	})
	before := len(entries(fmt.Sprintf("/proc/%d/fd", n.cmd.Process.Pid)))
	for transport := range dialers {
		d, err := dialers[transport](n.portForwardURL(pod))
		if err != nil {
			t.Fatal(err)
		}
		c, _, err := d.Dial("portforward.k8s.io")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			data, _ := n.streams(c, i, port)
			data.Read(make([]byte, 1))
		}
		if got := open.Load(); got != 20 {
			t.Errorf("%s: %d connections", transport, got)
		}
		c.Close()
		eventually(t, callLimit, "all connections are closed", func() error {
			if got := open.Load(); got != 0 {
				return fmt.Errorf("%d are open", got)
			}
			if now := len(entries(fmt.Sprintf("/proc/%d/fd", n.cmd.Process.Pid))); now > before+2 {
				return fmt.Errorf("%d descriptors, before %d", now, before)
			}
			return nil
		})
	}
	// A pod that is removed takes its connections along, and no later ones.
	address, _ := n.forward("SPDY", pod, port)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Read(make([]byte, 1))
	n.stopPod(pod)
	late, err := net.Dial("tcp", address)
	if err == nil {
		defer late.Close()
		if b, _ := io.ReadAll(late); len(b) > 0 {
			t.Errorf("a stopped pod answered: %q", b)
		}
	}
}
