package monitor

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
)

// storeGrace is how long the content of the pipes of ended containers waits when
// neither daemon nor monitor comes back.
const storeGrace = 30 * time.Second

// Operations of the descriptor store. Its messages are the monitor's; it is
// never upgraded, so these three stay as they are.
const (
	opHold = "hold" // target + files, no answer: adds to what is held for the id
	opDrop = "drop" // target, no answer
	opGive = "give" // target → {} + files
)

// store is a process that only holds descriptors: the readers of the output
// pipes, the terminals' masters and the pidfds. While it lives, daemon and
// monitor can die in the same instant and no container gets SIGPIPE or SIGHUP,
// and what ended ones wrote last is still there. It ends by itself when the
// containers have and nobody is connected.
type store struct {
	mu      sync.Mutex // guards what follows
	held    map[string]map[string]*os.File
	clients int
	alone   time.Time // since when nobody is connected and nothing runs

	left chan struct{} // a client went
}

// runStoreProgram is "berth-monitor store", which only a monitor starts.
func runStoreProgram(args []string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	flags := flag.NewFlagSet("berth-monitor store", flag.ContinueOnError)
	socket := flags.String("socket", "", "listen on this unix socket")
	client := flags.Int("client-fd", -1, "inherited descriptor of a first client")
	if flags.Parse(args) != nil || *socket == "" {
		return 2
	}
	swallow(unix.SIGHUP, unix.SIGPIPE)
	err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		err = runStore(log, *socket, *client)
	}
	if err != nil {
		log.Error("berth-monitor store", "error", err)
		return 1
	}
	return 0
}

func runStore(log *slog.Logger, socket string, client int) error {
	debug.SetGCPercent(20)
	runtime.GOMAXPROCS(1)
	s := &store{held: map[string]map[string]*os.File{}, left: make(chan struct{}, 1)}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(socket, 0o600); err != nil {
		return err
	}
	if client >= 0 {
		sock, err := fileConn(os.NewFile(uintptr(client), "client"))
		if err != nil {
			return err
		}
		s.enter()
		go s.serve(sock)
	}
	go func() {
		for {
			sock, err := l.AcceptUnix()
			if err != nil {
				log.Error("accept", "error", err)
				time.Sleep(100 * time.Millisecond)
				continue
			}
			if checkPeer(sock) != nil {
				sock.Close()
				continue
			}
			s.enter()
			go s.serve(sock)
		}
	}()
	for {
		wait, done := s.look()
		if done {
			return os.Remove(socket)
		}
		select {
		case <-s.left:
		case <-wait:
		}
	}
}

func (s *store) enter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients++
}

// look says whether nobody will miss the store, or when to look again: with
// clients only when one has left.
func (s *store) look() (again <-chan time.Time, done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients > 0 {
		s.alone = time.Time{}
		return nil, false
	}
	if len(s.held) == 0 {
		return nil, true
	}
	again = time.After(time.Second)
	for _, files := range s.held {
		if f := files[filePidfd]; f != nil {
			if dead, err := linux.PidfdDead(f, 0); err == nil && !dead {
				s.alone = time.Time{}
				return again, false
			}
		}
	}
	if s.alone.IsZero() {
		s.alone = time.Now()
	}
	return again, time.Since(s.alone) > storeGrace
}

// serve answers one client.
func (s *store) serve(sock *net.UnixConn) {
	c := newConn(sock)
	defer func() {
		sock.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.clients--
		select {
		case s.left <- struct{}{}:
		default:
		}
	}()
	for {
		e, files, err := c.receive()
		if errors.Is(err, errBadMessage) {
			continue
		}
		if err != nil {
			return
		}
		if e.ID == 0 {
			s.note(e, files)
			continue
		}
		if err := s.answer(c, e); err != nil {
			return
		}
		closeAll(files)
	}
}

// note takes a message that has no answer.
func (s *store) note(e envelope, files map[string]*os.File) {
	var t target
	if json.Unmarshal(e.Body, &t) != nil || t.ID == "" {
		closeAll(files)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Op == opDrop {
		closeAll(s.held[t.ID])
		delete(s.held, t.ID)
	}
	if e.Op != opHold {
		closeAll(files)
		return
	}
	if s.held[t.ID] == nil {
		s.held[t.ID] = map[string]*os.File{}
	}
	for name, f := range files {
		if old := s.held[t.ID][name]; old != nil {
			old.Close()
		}
		s.held[t.ID][name] = f
	}
}

func (s *store) answer(c *conn, e envelope) error {
	out := envelope{ID: e.ID}
	var body any
	var files []*os.File
	switch e.Op {
	case opHello:
		body = hello{Protocol: Protocol, Pid: os.Getpid()}
	case opGive:
		var t target
		json.Unmarshal(e.Body, &t)
		s.mu.Lock()
		defer s.mu.Unlock() // until they are sent
		for name, f := range s.held[t.ID] {
			out.Files = append(out.Files, name)
			files = append(files, f)
		}
	default:
		out.Error = toWire(fmt.Errorf("%s in the descriptor store: %w", e.Op, errdefs.ErrNotImplemented))
	}
	data, err := encode(out, body)
	if err != nil {
		return err
	}
	return c.send(data, files, time.Now().Add(sendTimeout))
}
