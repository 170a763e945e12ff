package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/oci"
)

const (
	defaultDrain = 2 * time.Second // how long an exit waits for the end of the output
	lockWait     = 5 * time.Second // for a predecessor that is just dying
	trimEvery    = 10 * time.Second
)

// Config of a Server.
type Config struct {
	Socket   string
	StateDir string
	Build    string
	Runtime  oci.Runtime
	Log      *slog.Logger
	Drain    time.Duration // 0: two seconds

	// Handover is the descriptor of what the program before left (see upgrade);
	// 0: none.
	Handover int

	// Store keeps copies of all descriptors in a process of their own.
	Store bool

	// ReapOrphans waits for every child of this process, also those that were
	// not started here. For a program that is nothing but a monitor.
	ReapOrphans bool
}

// Server is the monitor.
type Server struct {
	cfg      Config
	listener *net.UnixListener
	lock     *os.File // flock of monitor.lock while this process lives
	reaper   *reaper
	forks    sync.RWMutex // held for reading by who forks, for writing by an upgrade

	mu         sync.Mutex            // guards what follows
	containers map[string]*container // nil value: starting
	execs      map[execKey]struct{}
	clients    map[*session]struct{}
	store      *client // nil: being replaced, or none is wanted
}

// record is monitor.json, for people and for doctor.
type record struct {
	Pid       int    `json:"pid"`
	StartTime uint64 `json:"startTime"`
	Protocol  int    `json:"protocol"`
	Build     string `json:"build"`
	Socket    string `json:"socket"`
}

// NewServer takes the lock of the state directory and listens.
func NewServer(cfg Config) (*Server, error) {
	if cfg.Drain == 0 {
		cfg.Drain = defaultDrain
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Server{
		cfg:        cfg,
		reaper:     newReaper(cfg.Log),
		containers: map[string]*container{},
		execs:      map[execKey]struct{}{},
		clients:    map[*session]struct{}{},
	}
	h, err := readHandover(cfg.Handover)
	if err != nil {
		return nil, err
	}
	if h != nil {
		err = s.inheritSocket(h)
	} else if s.lock, err = takeLock(filepath.Join(cfg.StateDir, "monitor.lock")); err == nil {
		err = s.listen()
	}
	if err == nil {
		err = s.describe()
	}
	if err != nil {
		if s.lock != nil {
			s.lock.Close()
		}
		return nil, err
	}
	if cfg.Store { // before any client: adopted containers may need it
		if s.store, err = s.openStore(context.Background()); err != nil {
			cfg.Log.Error("open the descriptor store", "error", err) // Serve tries again
		}
	}
	if h != nil {
		s.inherit(h)
	}
	return s, nil
}

// listen replaces the socket of a dead predecessor; the lock says that it is dead.
func (s *Server) listen() error {
	if err := os.Remove(s.cfg.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: s.cfg.Socket, Net: "unixpacket"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false) // a successor may have made it anew
	if err := os.Chmod(s.cfg.Socket, 0o600); err != nil {
		l.Close()
		return err
	}
	s.listener = l
	return nil
}

func (s *Server) describe() error {
	start, err := linux.StartTime(os.Getpid())
	if err != nil {
		return err
	}
	return atomicfile.WriteJSON(filepath.Join(s.cfg.StateDir, "monitor.json"),
		record{os.Getpid(), start, Protocol, s.cfg.Build, s.cfg.Socket})
}

// Serve answers until the context ends. Containers go on then, and their output
// waits in the pipes for the next monitor.
func (s *Server) Serve(ctx context.Context) error {
	defer s.shut()
	if s.cfg.ReapOrphans {
		go s.reaper.run(ctx)
	}
	if s.cfg.Store {
		go s.keepStore(ctx, s.currentStore())
	}
	go s.trim(ctx)
	defer context.AfterFunc(ctx, func() { s.listener.Close() })()
	for {
		sock, err := s.listener.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			s.cfg.Log.Error("accept", "error", err)
			time.Sleep(100 * time.Millisecond) // out of descriptors, likely
			continue
		}
		if err := checkPeer(sock); err != nil {
			s.cfg.Log.Warn("refused a client", "error", err)
			sock.Close()
			continue
		}
		go s.ServeClient(sock)
	}
}

func (s *Server) shut() {
	s.listener.Close()
	s.mu.Lock()
	for c := range s.clients {
		c.conn.sock.Close()
	}
	s.mu.Unlock()
	s.lock.Close()
}

// trim gives memory back that bursts of output needed.
func (s *Server) trim(ctx context.Context) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, c := range s.all() {
			c.log.Trim()
		}
	}
}

// all are the containers that have started.
func (s *Server) all() []*container {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		if c != nil {
			list = append(list, c)
		}
	}
	return list
}

// find returns a started container.
func (s *Server) find(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.containers[id]
	switch {
	case !ok:
		return nil, fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	case c == nil:
		return nil, fmt.Errorf("container %s is starting: %w", id, errdefs.ErrFailedPrecondition)
	}
	return c, nil
}

// reserve keeps an id for a start.
func (s *Server) reserve(id, dir string) error {
	if id == "" || !filepath.IsAbs(dir) {
		return fmt.Errorf("container %q in directory %q: %w", id, dir, errdefs.ErrInvalidArgument)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.containers[id]; taken {
		return fmt.Errorf("container %s: %w", id, errdefs.ErrAlreadyExists)
	}
	s.containers[id] = nil
	return nil
}

// settle ends a reservation, with the container or (nil) without.
func (s *Server) settle(id string, c *container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c == nil {
		delete(s.containers, id)
	} else {
		s.containers[id] = c
	}
}

// broadcast tells every client of a container's exit.
func (s *Server) broadcast(x Exit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		c.events.add(x)
	}
}

// checkPeer refuses other users; the socket's mode does too.
func checkPeer(sock *net.UnixConn) error {
	raw, err := sock.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var inner error
	if err := raw.Control(func(fd uintptr) {
		cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || inner != nil {
		return errors.Join(err, inner)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("uid %d of pid %d: %w", cred.Uid, cred.Pid, errdefs.ErrPermissionDenied)
	}
	return nil
}

// takeLock makes sure that one monitor serves a state directory.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(5 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR || time.Now().After(end) {
			f.Close()
			return nil, fmt.Errorf("another monitor holds %s: %w", path, err)
		}
	}
}
