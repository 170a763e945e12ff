package embedded

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// release lets the waiting child go and listens until it has become the program.
//
// Cgroups of version 1 it joins itself, with its one thread. To move a process the
// kernel stops all forks of the machine for an RCU grace period, unless it did so
// a moment ago: 8 ms at the median here, and 0.7 ms for a thread that moves itself.
func (c *child) release(ctx context.Context, l *Launcher, s Start) (*Process, error) {
	p := &Process{Pid: c.pid, Pidfd: c.pidfd}
	release := plan.Release{}
	for _, procs := range s.Cgroup.Procs {
		dir := filepath.Dir(procs)
		if dir != s.Cgroup.V2Dir && userOf(s) == "" { // else it was born there
			release.Tasks = append(release.Tasks, dir+"/tasks")
		}
	}
	if err := raiseLimits(c.pid, s.Prepared.HardLimits); err != nil {
		return nil, err
	}
	if adj := s.Prepared.OOMScoreAdj; adj != nil {
		var err error
		if p.OOMScoreAdj, err = setOOMScore(c.pid, *adj); err != nil {
			return nil, stepError("oom score", err)
		}
	}
	message, err := release.Append(nil)
	if err != nil {
		return nil, stepError("cgroup", err)
	}
	// One that has ended has told why.
	if _, err := c.control.Write(message); err != nil && !errors.Is(err, unix.EPIPE) {
		return nil, stepError("control socket", err)
	}
	// Meanwhile, berth-init works.
	if p.StartTime, err = linux.StartTime(c.pid); err != nil {
		return nil, stepError("start time", err)
	}
	if c.outside != nil { // first, since its errors are the reason of others
		if _, err := c.outside.listen(ctx, nil); err != nil {
			return nil, err
		}
	}
	paused := func(stage uint32) error { return l.paused(ctx, c, s, stage) }
	if p.Console, err = c.listen(ctx, paused); err != nil {
		return nil, err
	}
	if s.Prepared.Terminal && p.Console == nil {
		return nil, &StepError{Step: "terminal", Detail: "berth-init sent none"}
	}
	return p, nil
}

// listen reads what berth-init says. The end of the socket after Ready is the
// execve, which closes it.
func (c *child) listen(ctx context.Context, paused func(stage uint32) error) (console *os.File, err error) {
	stop := context.AfterFunc(ctx, func() { _ = c.control.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	defer func() {
		if err != nil && console != nil {
			console.Close()
			console = nil
		}
	}()
	ready := false
	b := make([]byte, plan.MaxMessage)
	for {
		n, passed, err := c.receive(b)
		switch {
		case err != nil && ctx.Err() != nil:
			return console, ctx.Err()
		case err == io.EOF && ready:
			return console, nil
		case err == io.EOF:
			return console, &StepError{Step: "start berth-init", Detail: "it ended without a word"}
		case err != nil:
			return console, stepError("control socket", err)
		}
		switch b[0] {
		case plan.Ready:
			ready = true
		case plan.Paused:
			if n < 2 || paused == nil {
				return console, &StepError{Step: "control socket", Detail: "a message is damaged"}
			}
			if err := paused(uint32(b[1])); err != nil {
				return console, err
			}
		case plan.Console:
			console = passed
		case plan.Failed:
			f, ok := plan.ParseFailure(b[:n])
			if !ok {
				f.Step, f.Detail = "control socket", "a message is damaged"
			}
			return console, &StepError{Step: f.Step, Errno: syscall.Errno(f.Errno), Detail: f.Detail}
		}
	}
}

// receive reads one message and the descriptor that may come with it.
func (c *child) receive(b []byte) (n int, passed *os.File, err error) {
	conn, err := c.control.SyscallConn()
	if err != nil {
		return 0, nil, err
	}
	oob := make([]byte, unix.CmsgSpace(4))
	oobn := 0
	var inner error
	reset := false
	err = conn.Read(func(fd uintptr) bool {
		for {
			n, oobn, _, _, inner = unix.Recvmsg(int(fd), b, oob, unix.MSG_CMSG_CLOEXEC)
			switch {
			case inner == unix.EINTR:
			case inner == unix.ECONNRESET && !reset:
				// It ended before it read our message. The kernel tells that
				// once, ahead of what it said before.
				reset = true
			default:
				return inner != unix.EAGAIN
			}
		}
	})
	switch {
	case err != nil:
		return 0, nil, err
	case inner == unix.ECONNRESET || inner == nil && n == 0:
		return 0, nil, io.EOF
	case inner != nil || oobn == 0:
		return n, nil, inner
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) == 0 {
		return n, nil, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return n, nil, err
	}
	_ = unix.SetNonblock(fds[0], true) // for Go's poller
	return n, os.NewFile(uintptr(fds[0]), "console"), nil
}

// setOOMScore returns the value that was set when it is not the wanted one: to
// make a process less likely to be killed than its parent takes
// CAP_SYS_RESOURCE. Then it stays as likely as the parent.
func setOOMScore(pid, wanted int) (*int, error) {
	err := linux.WriteKernel("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", strconv.Itoa(wanted))
	if !errors.Is(err, unix.EACCES) {
		return nil, err
	}
	b, err := linux.ReadKernel("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", nil)
	if err != nil {
		return nil, err
	}
	inherited, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return &inherited, err
}
