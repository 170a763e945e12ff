package streaming

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cri/berth/runtime/container"
	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const patience = 20 * time.Second // before a test gives up; nothing is measured with it

// fake runs a function as every exec and attachment.
type fake struct {
	run func(ctx context.Context, client container.Streams) (int, error)
}

func (f fake) Exec(ctx context.Context, _ string, _ []string, _ bool, client container.Streams) (int, error) {
	return f.run(ctx, client)
}

func (f fake) AttachClient(ctx context.Context, _ string, client container.Streams) error {
	_, err := f.run(ctx, client)
	return err
}

func (f fake) Dial(context.Context, string, uint16) (*net.TCPConn, error) {
	return nil, errdefs.ErrUnavailable
}

func serve(t *testing.T, f fake, change ...func(*Options)) *Server {
	t.Helper()
	o := Options{
		Address: netip.MustParseAddrPort("127.0.0.1:0"), CreationTimeout: patience,
		Containers: f, Pods: f, Log: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&o)
	}
	s, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve()
	t.Cleanup(s.Close)
	return s
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain for:", what)
		}
	}
}

func TestTokens(t *testing.T) {
	s := &tokens{granted: map[string]grant{}}
	first, err := s.add("first")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.take("another"); got != nil {
		t.Errorf("a token that nobody has: %v", got)
	}
	if got := s.take(first); got != "first" {
		t.Errorf("%v", got)
	}
	if got := s.take(first); got != nil {
		t.Errorf("used twice: %v", got)
	}
	old, _ := s.add("old")
	s.granted[old] = grant{"old", time.Now().Add(-time.Second)}
	if got := s.take(old); got != nil {
		t.Errorf("expired: %v", got)
	}
	for i := range maxTokens {
		if _, err := s.add(i); err != nil {
			t.Fatal(i, err)
		}
	}
	if _, err := s.add("more"); !errdefs.IsResourceExhausted(err) {
		t.Errorf("one too many: %v", err)
	}
	for token, g := range s.granted {
		g.expires = time.Now().Add(-time.Second)
		s.granted[token] = g
		break
	}
	if _, err := s.add("more"); err != nil {
		t.Errorf("after one has expired: %v", err)
	}
}

func TestWhatIsNotServed(t *testing.T) {
	s := serve(t, fake{})
	exec, _ := s.Exec(&runtimeapi.ExecRequest{ContainerId: "c", Stdout: true})
	check(t, "nothing", "GET", s.base.String(), http.StatusNotFound)
	check(t, "no token", "GET", s.base.String()+"/exec/", http.StatusNotFound)
	check(t, "unknown token", "POST", s.base.String()+"/exec/x", http.StatusNotFound)
	check(t, "another method", "PUT", exec, http.StatusMethodNotAllowed)
	check(t, "another kind of stream", "POST", strings.Replace(exec, "/exec/", "/attach/", 1), http.StatusNotFound)
	check(t, "a token that was tried", "POST", exec, http.StatusNotFound)
	exec, _ = s.Exec(&runtimeapi.ExecRequest{ContainerId: "c", Stdout: true})
	check(t, "no upgrade", "POST", exec, http.StatusBadRequest)
}

func check(t *testing.T, name, method, url string, code int) {
	t.Helper()
	req, _ := http.NewRequest(method, url, nil)
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	r.Body.Close()
	if r.StatusCode != code {
		t.Errorf("%s: %s, want %d", name, r.Status, code)
	}
}

func TestReachable(t *testing.T) {
	for listens, want := range map[string]string{
		"127.0.0.1": "127.0.0.1:7", "0.0.0.0": "127.0.0.1:7", "::": "[::1]:7", "10.1.2.3": "10.1.2.3:7",
	} {
		if got := reachable(&net.TCPAddr{IP: net.ParseIP(listens), Port: 7}).String(); got != want {
			t.Errorf("%s: %s, want %s", listens, got, want)
		}
	}
}

// pair is a connection as the server has it, and its client.
func pair(t *testing.T) (*conn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := &conn{TCPConn: server.(*net.TCPConn), done: make(chan struct{}), forget: func(*conn) {}}
	c.begin(context.Background())
	t.Cleanup(func() { c.Close() })
	return c, client.(*net.TCPConn)
}

func TestClientGoes(t *testing.T) {
	for name, tc := range map[string]struct{ leave func(*net.TCPConn) }{
		"closed":                   {func(c *net.TCPConn) { c.Close() }},
		"reset":                    {func(c *net.TCPConn) { c.SetLinger(0); c.Close() }},
		"closed, with more unread": {func(c *net.TCPConn) { c.Write(make([]byte, 1<<10)); c.Close() }},
		"reset, with more unread":  {func(c *net.TCPConn) { c.Write(make([]byte, 1<<10)); c.SetLinger(0); c.Close() }},
	} {
		t.Run(name, func(t *testing.T) {
			c, client := pair(t)
			go c.watch() // and nobody reads
			tc.leave(client)
			select {
			case <-c.ctx.Done():
			case <-time.After(patience):
				t.Fatal("nobody noticed")
			}
			if cause := context.Cause(c.ctx); !errors.Is(cause, errClientGone) {
				t.Error(cause)
			}
		})
	}
}

// The last word arrives although the client's own was not read, and who reads on
// the server's side is let go at once.
func TestLastWord(t *testing.T) {
	c, client := pair(t)
	client.Write(make([]byte, 100<<10))
	reads := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(c, make([]byte, 1<<20))
		reads <- err
	}()
	word := strings.Repeat("w", 50<<10)
	io.WriteString(c, word)
	c.Close()
	c.Close()
	if err := <-reads; !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		t.Errorf("the reader: %v", err)
	}
	began := time.Now()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF || time.Since(began) > lingerLimit/2 {
		t.Errorf("a later reader: %v after %s", err, time.Since(began))
	}
	client.Write(make([]byte, 100<<10)) // after the close; would be answered by a reset
	time.Sleep(50 * time.Millisecond)
	if b, err := io.ReadAll(client); string(b) != word || err != nil {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	client.Close()
	<-c.done
}

func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	if _, err := Certificate(cert, key, netip.Addr{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no files: %v", err)
	}
	write := func(age time.Duration) []byte {
		t.Helper()
		made, certPEM, keyPEM := pemPair(t)
		for path, content := range map[string][]byte{cert: certPEM, key: keyPEM} {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			when := time.Now().Add(-age)
			os.Chtimes(path, when, when)
		}
		return made
	}
	first := write(time.Hour)
	config, err := Certificate(cert, key, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, fake{}, func(o *Options) { o.TLS = config })
	served := func() []byte {
		t.Helper()
		c, err := tls.Dial("tcp", s.base.Host, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if p := c.ConnectionState().NegotiatedProtocol; p == "h2" {
			t.Error("HTTP/2, which cannot be upgraded")
		}
		return c.ConnectionState().PeerCertificates[0].Raw
	}
	if string(served()) != string(first) {
		t.Error("another certificate")
	}
	second := write(time.Minute)
	if string(served()) != string(second) {
		t.Error("not the new certificate")
	}
	os.WriteFile(key, []byte("half"), 0o600)
	if string(served()) != string(second) {
		t.Error("files that do not fit each other were used")
	}
}

// Close tells clients, waits for them a little, and leaves no goroutine.
func TestClose(t *testing.T) {
	before := runtime.NumGoroutine()
	var mu sync.Mutex
	var causes []error
	s := serve(t, fake{func(ctx context.Context, _ container.Streams) (int, error) {
		<-ctx.Done()
		mu.Lock()
		defer mu.Unlock()
		causes = append(causes, context.Cause(ctx))
		return 0, ctx.Err()
	}})
	const clients = 5
	var all sync.WaitGroup
	for i := range clients {
		url, err := s.Exec(&runtimeapi.ExecRequest{ContainerId: "c", Stdout: true})
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			if got := v5(t, url); !strings.Contains(got, "the daemon stops") {
				t.Errorf("client %d heard: %q", i, got)
			}
		})
	}
	until(t, "all connect", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.conns) == clients })
	time.Sleep(50 * time.Millisecond)
	s.Close()
	all.Wait()
	s.Close()
	mu.Lock()
	defer mu.Unlock()
	for _, c := range causes {
		if !errors.Is(c, container.ErrDaemonStops) {
			t.Errorf("cause: %v", c)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	until(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before+1 })
	if _, err := net.Dial("tcp", s.base.Host); err == nil {
		t.Error("still listening")
	}
}

func TestOutcome(t *testing.T) {
	c := &command{doing: "executing command in container"}
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"success": {nil, "{{} Success   <nil> 0}"},
		"failure": {errors.New("no"), "Internal error occurred: error executing command in container: no"},
	} {
		if got := fmt.Sprint(c.outcome(tc.err)); !strings.Contains(got, tc.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
}
