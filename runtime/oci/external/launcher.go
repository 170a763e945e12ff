package external

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/oci"
)

var _ oci.Runtime = (*Launcher)(nil)

// Launcher starts containers and execs of external runtimes, and leaves those of
// the embedded one to Embedded. It runs in the monitor, which must be a subreaper:
// what a runtime leaves behind becomes its child.
type Launcher struct {
	Embedded oci.Runtime
	// Helper is the program that has the helper of this package.
	Helper string
}

// deleteLimit bounds the undoing of a start, whose own time may be over.
const deleteLimit = 20 * time.Second

// Start implements oci.Runtime.
func (l *Launcher) Start(ctx context.Context, s oci.Start) (*oci.Process, error) {
	c := s.Prepared.External
	if c == nil {
		return l.Embedded.Start(ctx, s)
	}
	j, err := newJob(c)
	if err != nil {
		return nil, err
	}
	defer j.close()
	if s.TargetPidfd != nil {
		return j.exec(ctx, s)
	}
	p, err := l.create(ctx, j, s)
	if err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteLimit)
		defer cancel()
		err = errors.Join(err, Delete(clean, c))
	}
	return p, err
}

// create makes the container, puts its process, which waits, where it belongs, and
// lets it go.
func (l *Launcher) create(ctx context.Context, j *job, s oci.Start) (_ *oci.Process, err error) {
	args := append([]string{HelperName, j.file("log"), j.c.Area, j.c.Program},
		j.args("create", "--bundle", j.c.Bundle, "--pid-file", j.file("pid"))...)
	cmd := exec.CommandContext(ctx, l.Helper, args...)
	cmd.Args[0] = "berth-monitor" // to who lists processes
	cmd.ExtraFiles = []*os.File{s.Plan}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	p, err := j.call(ctx, cmd, s, "create")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			end(p)
		}
	}()
	if err = place(p.Pid, s.Cgroup); err != nil {
		return nil, fmt.Errorf("put the container into its cgroup: %w", err)
	}
	if err = run(ctx, j.c, nil, "start", j.c.ID); err != nil {
		return nil, err
	}
	return p, nil
}

// exec starts a process in the container. Where the runtime cannot be told its
// cgroup, it is moved there as soon as it is known, with what it has started.
func (j *job) exec(ctx context.Context, s oci.Start) (_ *oci.Process, err error) {
	args := []string{"exec", "--detach", "--pid-file", j.file("pid"), "--process", "/proc/self/fd/" + strconv.Itoa(planFD)}
	if dir := s.Cgroup.V2Dir; j.c.ExecCgroup {
		if dir == "" && len(s.Cgroup.Procs) > 0 {
			dir = filepath.Dir(s.Cgroup.Procs[0])
		}
		args = append(args, "--cgroup", "/"+filepath.Base(dir)) // the same in every hierarchy
	}
	cmd := exec.CommandContext(ctx, j.c.Program, j.args(args...)...)
	cmd.ExtraFiles = []*os.File{s.Plan}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	p, err := j.call(ctx, cmd, s, "exec")
	if err != nil {
		return nil, err
	}
	if err = placeAll(p.Pid, s.Cgroup); err != nil {
		end(p)
		return nil, fmt.Errorf("put the command into its cgroup: %w", err)
	}
	if adj := s.Prepared.OOMScoreAdj; adj != nil {
		// Runtimes give a command what the container had at its creation. EACCES: to
		// go lower than our own takes CAP_SYS_RESOURCE.
		err := linux.WriteKernel("/proc/"+strconv.Itoa(p.Pid)+"/oom_score_adj", strconv.Itoa(*adj))
		if err != nil && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.ESRCH) && !errors.Is(err, os.ErrNotExist) {
			end(p)
			return nil, err
		}
	}
	return p, nil
}

// call runs "create" or "exec" and returns the process that it leaves.
func (j *job) call(ctx context.Context, cmd *exec.Cmd, s oci.Start, action string) (_ *oci.Process, err error) {
	p := &oci.Process{}
	var out tail
	cmd.Env = environment()
	if s.Prepared.Terminal {
		t, err := listenConsole(j.file("tty"))
		if err != nil {
			return nil, err
		}
		defer t.close()
		cmd.Args = append(cmd.Args, "--console-socket", t.path)
		cmd.Stdout, cmd.Stderr = &out, &out
		defer func() {
			if err == nil {
				p.Console, err = t.accept(ctx)
				if err != nil {
					end(p)
				}
			}
		}()
	} else {
		if err := own(s); err != nil {
			return nil, err
		}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = reader(s.Stdin), writer(s.Stdout), writer(s.Stderr)
	}
	cmd.Args = append(cmd.Args, j.c.ID)
	cmd.Dir = "/"
	if err := runTied(cmd); err != nil {
		return nil, j.failure(ctx, action, out.String(), err)
	}
	return p, j.findProcess(p)
}

// own gives the pipes to the user that the process runs as, who may open
// /dev/stdout again. A runtime in a user namespace has no right to.
func own(s oci.Start) error {
	for _, f := range []*os.File{s.Stdin, s.Stdout, s.Stderr} {
		if f == nil {
			continue
		}
		st, err := f.Stat()
		if err == nil && st.Mode()&os.ModeNamedPipe != 0 {
			err = f.Chown(int(s.Prepared.UID), int(s.Prepared.GID))
		}
		if err != nil {
			return fmt.Errorf("give standard streams to their user: %w", err)
		}
	}
	return nil
}

// runTied runs a command that dies with this process. PR_SET_PDEATHSIG is about
// the thread, which therefore stays until the command has ended.
func runTied(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	cmd.WaitDelay = time.Second // a pipe to us that was left to somebody
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return err
}

// findProcess takes hold of the process, which is our child by now: so its number
// cannot become another's.
func (j *job) findProcess(p *oci.Process) error {
	b, err := readTail(j.file("pid"))
	if err == nil {
		p.Pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if err != nil {
		return fmt.Errorf("the process that %s started: %w", j.c.Program, err)
	}
	if p.StartTime, err = linux.StartTime(p.Pid); err != nil {
		return fmt.Errorf("the process that %s started: %w", j.c.Program, err)
	}
	if p.Pidfd, err = linux.PidfdOpen(p.Pid); err != nil {
		return fmt.Errorf("the process that %s started: %w", j.c.Program, err)
	}
	return nil
}

// end kills and reaps a process that was started in vain.
func end(p *oci.Process) {
	_ = linux.PidfdSignal(p.Pidfd, unix.SIGKILL)
	for {
		// ECHILD: this process is no subreaper, and somebody else's.
		if _, err := unix.Wait4(p.Pid, nil, unix.WALL, nil); err != unix.EINTR {
			break
		}
	}
	p.Pidfd.Close()
	if p.Console != nil {
		p.Console.Close()
	}
}

// reader and writer avoid the interface that holds a nil *os.File, which is not
// /dev/null to os/exec.
func reader(f *os.File) io.Reader {
	if f == nil {
		return nil
	}
	f.Fd() // in blocking mode: programs do not expect another
	return f
}

func writer(f *os.File) io.Writer {
	if f == nil {
		return nil
	}
	f.Fd()
	return f
}
