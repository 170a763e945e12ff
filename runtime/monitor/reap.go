package monitor

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
)

// reaper waits for processes that nobody here started: orphans of containers
// that share the host's PID namespace come to the monitor, which is a subreaper.
// It never takes the status of a process that somebody waits for.
type reaper struct {
	log  *slog.Logger
	kick chan struct{}

	mu      sync.Mutex // guards what follows
	known   map[int]struct{}
	flights map[*flight]struct{}
}

// flight is a launch in progress: it has children that are not known yet.
type flight struct{ begin uint64 } // in clock ticks since boot

func newReaper(log *slog.Logger) *reaper {
	return &reaper{log: log, kick: make(chan struct{}, 1), known: map[int]struct{}{}, flights: map[*flight]struct{}{}}
}

func (r *reaper) begin() *flight {
	f := &flight{begin: bootTicks()}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flights[f] = struct{}{}
	return f
}

// end makes the child of a launch known; 0 when there is none.
func (r *reaper) end(f *flight, pid int) {
	r.mu.Lock()
	delete(r.flights, f)
	if pid != 0 {
		r.known[pid] = struct{}{}
	}
	r.mu.Unlock()
	r.look()
}

// know keeps the reaper from a child that was started before this program.
func (r *reaper) know(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[pid] = struct{}{}
}

// forget is called when the process was waited for.
func (r *reaper) forget(pid int) {
	r.mu.Lock()
	delete(r.known, pid)
	r.mu.Unlock()
	r.look()
}

func (r *reaper) look() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// run reaps until the context ends.
func (r *reaper) run(ctx context.Context) {
	child := make(chan os.Signal, 1)
	signal.Notify(child, unix.SIGCHLD)
	defer signal.Stop(child)
	for {
		r.reap()
		select {
		case <-child:
		case <-r.kick:
		case <-ctx.Done():
			return
		}
	}
}

// reap takes orphans for as long as the first waiting child is one. A child that
// is not: its own waiter, or the end of its launch, calls look.
func (r *reaper) reap() {
	for {
		pid, _ := peek(unix.P_ALL, 0)
		if pid == 0 || !r.orphan(pid) {
			return
		}
		var ws unix.WaitStatus
		if got, _ := unix.Wait4(pid, &ws, unix.WNOHANG|unix.WALL, nil); got == pid {
			r.log.Debug("reaped an orphan", "pid", pid)
		}
	}
}

// orphan says whether a zombie is nobody's: not known, and older than every
// launch in progress.
func (r *reaper) orphan(pid int) bool {
	st, err := linux.ReadProcStat(pid)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ours := r.known[pid]; ours || err != nil {
		return false
	}
	for f := range r.flights {
		if st.StartTime >= f.begin {
			return false
		}
	}
	return true
}

// peek returns a child that has ended (0: none) with its status, without taking
// that.
func peek(kind, id int) (pid int, ws unix.WaitStatus) {
	// The union of siginfo_t starts at 16 on 64-bit machines.
	var info unix.Siginfo
	err := ignoringEINTR(func() error {
		return unix.Waitid(kind, id, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil)
	})
	if err != nil {
		return 0, 0
	}
	child := (*struct {
		_                [16]byte
		pid, uid, status int32
	})(unsafe.Pointer(&info))
	if info.Code == cldExited {
		return int(child.pid), unix.WaitStatus(child.status << 8)
	}
	return int(child.pid), unix.WaitStatus(child.status)
}

// cldExited is the si_code of a child that called exit; with the others the
// status is a signal.
const cldExited = 1

// bootTicks is now as /proc/PID/stat counts start times (USER_HZ is 100 on every
// architecture Go runs on).
func bootTicks() uint64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return uint64(ts.Sec)*100 + uint64(ts.Nsec)/10_000_000
}
