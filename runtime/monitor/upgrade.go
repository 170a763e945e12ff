package monitor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/runtime/monitor/logs"
)

// forksWait bounds how long an upgrade waits for starts in progress.
const forksWait = 3 * time.Second

// handover is what the old program leaves to the new one, in a memfd. Numbers
// are descriptors, which stay open through execve under the same number.
type handover struct {
	Listener   int      `json:"listener"`
	Lock       int      `json:"lock"`
	Keep       []int    `json:"keep"` // open until the new program has opened its own
	Containers []legacy `json:"containers"`
}

// legacy is one container.
type legacy struct {
	AdoptRequest
	PidfdFD   int         `json:"pidfd"`
	ConsoleFD int         `json:"console"`
	Signaled  bool        `json:"signaled,omitempty"`
	KillAt    time.Time   `json:"killAt,omitzero"`
	Exit      *Exit       `json:"exit,omitempty"`
	Drained   bool        `json:"drained,omitempty"`
	Output    logs.Status `json:"output"`
}

// upgrade is opUpgrade: it becomes another program in place, with the same pid,
// children and descriptors. It returns only when that failed.
//
// Readers need not be stopped: to them it is what SIGKILL is, and the carry
// files are made for that. Forks must be, or a child would be half made, or
// inherit what is kept open here. Connections close; clients come back, for the
// listening socket stays.
func (s *Server) upgrade(r upgradeRequest) error {
	if !filepath.IsAbs(r.Path) {
		return fmt.Errorf("upgrade to %q: %w", r.Path, errdefs.ErrInvalidArgument)
	}
	for end := time.Now().Add(forksWait); !s.forks.TryLock(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("upgrade: starts are in progress: %w", errdefs.ErrUnavailable)
		}
	}
	defer s.forks.Unlock()

	k := &kept{}
	defer k.undo()
	h := handover{Listener: k.conn(s.listener), Lock: k.file(s.lock)}
	for _, c := range s.all() {
		h.Containers = append(h.Containers, c.bequeath(k))
	}
	h.Keep = k.extra
	data, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	memfd, err := unix.MemfdCreate("handover", 0)
	if err != nil {
		return fmt.Errorf("upgrade: %w", os.NewSyscallError("memfd_create", err))
	}
	f := os.NewFile(uintptr(memfd), "handover")
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	if k.err != nil {
		return fmt.Errorf("upgrade: keep descriptors: %w", k.err)
	}
	args := []string{
		"berth-monitor", "--socket", s.cfg.Socket, "--state", s.cfg.StateDir, "--init", r.Init,
		"--handover-fd", fmt.Sprint(memfd),
	}
	s.cfg.Log.Info("become another program", "path", r.Path)
	// No thread here is in a foreign namespace: those belong to forks.
	err = syscall.Exec(r.Path, args, os.Environ())
	return fmt.Errorf("upgrade to %s: %w", r.Path, err)
}

// bequeath is the container's part of the handover.
func (c *container) bequeath(k *kept) legacy {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := legacy{
		AdoptRequest: AdoptRequest{
			ID: c.id, Dir: c.dir, Pid: c.pid, StartTime: c.startTime, At: c.at, Terminal: c.console != nil,
			KillCgroup: c.killCgroup, Log: c.logPath, Stdin: c.stdin != nil,
		},
		PidfdFD: k.file(c.pidfd), ConsoleFD: k.file(c.console),
		Signaled: c.signaled, KillAt: c.killAt, Exit: c.exit, Output: c.log.Status(),
	}
	select {
	case <-c.drained:
		l.Drained = true
	default:
		k.spare(c.readers...)
	}
	k.spare(c.stdin)
	return l
}

// kept are descriptors that stay open through execve.
type kept struct {
	all, extra []int
	err        error
}

// keep clears close-on-exec.
func (k *kept) keep(raw syscall.RawConn, err error) int {
	n := -1
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			if _, err := unix.FcntlInt(fd, unix.F_SETFD, 0); err == nil {
				n = int(fd)
				k.all = append(k.all, n)
			}
		})
	}
	if n < 0 && err == nil {
		err = unix.EBADF
	}
	if err != nil && k.err == nil {
		k.err = err
	}
	return n
}

func (k *kept) conn(c syscall.Conn) int { return k.keep(c.SyscallConn()) }

// file keeps a file; -1 for nil.
func (k *kept) file(f *os.File) int {
	if f == nil {
		return -1
	}
	return k.conn(f)
}

// spare keeps files that only bridge the gap; a closed one is no loss.
func (k *kept) spare(files ...*os.File) {
	before := k.err
	for _, f := range files {
		if n := k.file(f); n >= 0 {
			k.extra = append(k.extra, n)
		}
	}
	k.err = before
}

func (k *kept) undo() {
	for _, fd := range k.all {
		unix.CloseOnExec(fd)
	}
}

// readHandover reads what the program before us left; nil for no descriptor.
func readHandover(fd int) (*handover, error) {
	if fd <= 0 {
		return nil, nil
	}
	f := os.NewFile(uintptr(fd), "handover")
	defer f.Close()
	var h handover
	if err := json.NewDecoder(io.NewSectionReader(f, 0, 1<<30)).Decode(&h); err != nil {
		return nil, fmt.Errorf("read the handover: %w", err)
	}
	return &h, nil
}

// inheritSocket takes over what makes a server the only one.
func (s *Server) inheritSocket(h *handover) error {
	s.lock = os.NewFile(uintptr(h.Lock), "monitor.lock")
	f := os.NewFile(uintptr(h.Listener), "listener")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("inherit the socket: %w", err)
	}
	unixListener, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return fmt.Errorf("inherit the socket: descriptor %d is no unix socket: %w", h.Listener, errdefs.ErrInternal)
	}
	unixListener.SetUnlinkOnClose(false)
	s.listener = unixListener
	return nil
}

// inherit takes over the containers.
func (s *Server) inherit(h *handover) {
	for _, l := range h.Containers {
		if err := s.inheritOne(l); err != nil {
			s.cfg.Log.Error("inherit", "container", l.ID, "error", err)
		}
	}
	for _, fd := range h.Keep {
		unix.Close(fd)
	}
}

func (s *Server) inheritOne(l legacy) error {
	if l.PidfdFD >= 0 {
		l.Pidfd = os.NewFile(uintptr(l.PidfdFD), filePidfd)
		defer l.Pidfd.Close() // adopt makes its own of both
	}
	if l.ConsoleFD >= 0 {
		l.Console = os.NewFile(uintptr(l.ConsoleFD), fileConsole)
		defer l.Console.Close()
	}
	if l.Exit != nil && l.Drained {
		return s.inheritEnded(l)
	}
	if err := s.adopt(context.Background(), l.AdoptRequest); err != nil {
		return err
	}
	c, err := s.find(l.ID)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.signaled = l.Signaled
	c.mu.Unlock()
	if l.KillAt.IsZero() {
		return nil
	}
	return s.kill(KillRequest{ID: l.ID, After: max(time.Until(l.KillAt), 0)})
}

// inheritEnded keeps the exit of a container until Forget.
func (s *Server) inheritEnded(l legacy) error {
	c := &container{
		id: l.ID, dir: l.Dir, pid: l.Pid, startTime: l.StartTime, at: l.At, logPath: l.Log,
		killCgroup: l.KillCgroup, log: logs.Ended(l.Output), exit: l.Exit,
		drained: make(chan struct{}), exited: make(chan struct{}),
	}
	close(c.drained)
	close(c.exited)
	var err error
	if l.Pidfd != nil {
		if c.pidfd, err = duplicate(l.Pidfd); err != nil {
			return err
		}
	}
	if l.Console != nil {
		if c.console, err = duplicate(l.Console); err != nil {
			return err
		}
	}
	s.settle(l.ID, c)
	return nil
}
