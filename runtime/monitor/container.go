package monitor

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/monitor/logs"
)

const carryFile = "carry"

// container is one container from its start to Forget.
type container struct {
	id, dir    string
	pid        int
	startTime  uint64
	at         time.Time
	pidfd      *os.File
	console    *os.File // nil without a terminal
	logPath    string
	killCgroup string
	log        *logs.Log
	readers    []*os.File    // of its output, until each one's end
	drained    chan struct{} // closed at the end of all output

	mu       sync.Mutex    // guards what follows
	stdin    *os.File      // nil: closed or never open
	exit     *Exit         // nil: running
	exited   chan struct{} // closed with exit
	signaled bool          // the graceful signal was sent
	killAt   time.Time     // zero: no kill is planned
	killer   *time.Timer
	attached map[*attachment]struct{}
}

// stdio are the monitor's ends of a container's standard streams, and the
// container's.
type stdio struct {
	stdin, stdout, stderr       *os.File // ours; stdin nil without one
	childIn, childOut, childErr *os.File
}

func (p *stdio) closeChild() { closeFiles(&p.childIn, &p.childOut, &p.childErr) }

func (p *stdio) close() {
	p.closeChild()
	closeFiles(&p.stdin, &p.stdout, &p.stderr)
}

func closeFiles(files ...**os.File) {
	for _, f := range files {
		if *f != nil {
			(*f).Close()
			*f = nil
		}
	}
}

// openStdio opens the pipes of a directory for a start.
func openStdio(dir string, stdin bool) (_ *stdio, err error) {
	p := &stdio{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	out, errs := filepath.Join(dir, stdoutFIFO), filepath.Join(dir, stderrFIFO)
	if p.stdout, err = openReader(out); err != nil {
		return nil, err
	}
	if p.stderr, err = openReader(errs); err != nil {
		return nil, err
	}
	// Write-only, see the package comment; blocking, as programs expect it.
	if p.childOut, err = openEnd(out, unix.O_WRONLY); err != nil {
		return nil, err
	}
	if p.childErr, err = openEnd(errs, unix.O_WRONLY); err != nil {
		return nil, err
	}
	if !stdin {
		return p, nil
	}
	in := filepath.Join(dir, stdinFIFO)
	// Non-blocking open (no writer yet), blocking for the program.
	if p.childIn, err = openKeeper(in, unix.O_RDONLY); err != nil {
		return nil, err
	}
	p.stdin, err = openEnd(in, unix.O_WRONLY|unix.O_NONBLOCK)
	return p, err
}

// openReader opens the reading end of an output. A reader that has never seen a
// writer is not told when there is none (poll gives nothing, read gives end of
// file): so it is shown one.
func openReader(path string) (*os.File, error) {
	r, err := openEnd(path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	w, err := openPipe(path, unix.O_RDWR|unix.O_NONBLOCK)
	if err != nil {
		r.Close()
		return nil, err
	}
	unix.Close(w)
	return r, nil
}

// pollable gives a file of its own in Go's poller for a descriptor, and leaves
// the description, which others share, in blocking mode: so the daemon's copy of
// a terminal does not wake the daemon at every output.
func pollable(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var p *os.File
	var inner error
	if err := raw.Control(func(fd uintptr) {
		var dup int
		if dup, inner = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3); inner != nil {
			return
		}
		if inner = unix.SetNonblock(dup, true); inner == nil {
			p = os.NewFile(uintptr(dup), f.Name())
		} else {
			unix.Close(dup)
		}
		unix.SetNonblock(int(fd), false)
	}); err != nil {
		return nil, err
	}
	if inner != nil {
		return nil, os.NewSyscallError("fcntl", inner)
	}
	return p, nil
}

// duplicate gives a file of its own for a descriptor, outside Go's poller when
// the description is in blocking mode.
func duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var dup int
	var inner error
	if err := raw.Control(func(fd uintptr) { dup, inner = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		return nil, err
	}
	if inner != nil {
		return nil, os.NewSyscallError("fcntl", inner)
	}
	return os.NewFile(uintptr(dup), f.Name()), nil
}

// terminal gives two files for a master: one to read from, and one to keep and
// hand out.
func terminal(master *os.File) (reader, keep *os.File, err error) {
	if reader, err = pollable(master); err != nil {
		return nil, nil, err
	}
	if keep, err = duplicate(master); err != nil {
		reader.Close()
		return nil, nil, err
	}
	return reader, keep, nil
}

// awaitDeath parks until the process behind a pollable pidfd has ended.
func awaitDeath(pidfd *os.File) error {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		_, err := unix.Poll(p, 0)
		if err == unix.EINTR {
			err = nil
		}
		inner = err
		return err != nil || p[0].Revents != 0
	})
	if err == nil {
		err = inner
	}
	return err
}

// drain reads the outputs to their end, in the background. It owns the files.
func (c *container) drain(report func(error), outputs map[logs.Stream]*os.File) {
	c.drained = make(chan struct{})
	var all sync.WaitGroup
	for stream, f := range outputs {
		if f == nil {
			continue
		}
		c.readers = append(c.readers, f)
		all.Go(func() {
			defer f.Close()
			if err := c.log.Drain(stream, f); err != nil {
				report(fmt.Errorf("read %s of %s: %w", stream, c.id, err))
			}
		})
	}
	go func() {
		all.Wait()
		close(c.drained)
	}()
}

// describe is the container's line in List.
func (c *container) describe() Container {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Container{
		ID: c.id, Dir: c.dir, Pid: c.pid, StartTime: c.startTime, At: c.at, Log: c.logPath,
		Terminal: c.console != nil, Stdin: c.stdin != nil, Output: c.log.Status(), Exit: c.exit,
	}
}

// hasEnded says whether the exit was published.
func (c *container) hasEnded() bool {
	select {
	case <-c.exited:
		return true
	default:
		return false
	}
}

// signal reaches this process only, never one that got its number later.
func (c *container) signal(sig unix.Signal) error { return linux.PidfdSignal(c.pidfd, sig) }
