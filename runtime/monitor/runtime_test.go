package monitor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/oci"
)

// monitorVariable makes the test binary a monitor, with forker as its runtime.
const monitorVariable = "BERTH_TEST_MONITOR"

func TestMain(m *testing.M) {
	if v := os.Getenv(monitorVariable); v != "" {
		p := Program{Version: v, Runtime: func(string) (oci.Runtime, error) { return forker{}, nil }}
		os.Exit(p.Run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// forker is a runtime that starts ordinary programs: a plan is their argv.
type forker struct{}

func (forker) Start(ctx context.Context, s oci.Start) (*oci.Process, error) {
	var argv []string
	if err := json.NewDecoder(&offsetReader{f: s.Plan}).Decode(&argv); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, &oci.StepError{Step: "execve " + argv[0], Errno: unix.ENOENT}
	}
	if len(s.Cgroup.Procs) > 0 { // nothing may fork before it is in its cgroup
		path, argv = "/bin/sh", append([]string{"sh", "-c", `kill -STOP $$; exec "$@"`, "sh"}, argv...)
	}
	p := &oci.Process{}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	std := [3]*os.File{s.Stdin, s.Stdout, s.Stderr}
	attr := &syscall.SysProcAttr{}
	if s.Prepared.Terminal {
		slave, err := openTerminal(p)
		if err != nil {
			return nil, err
		}
		defer slave.Close()
		std = [3]*os.File{slave, slave, slave}
		attr.Setsid, attr.Setctty = true, true
	}
	var fds []uintptr
	for _, f := range std {
		if f == nil {
			f = null
		}
		fds = append(fds, f.Fd())
	}
	pidfd := -1
	attr.PidFD = &pidfd
	if p.Pid, err = syscall.ForkExec(path, argv, &syscall.ProcAttr{Files: fds, Env: os.Environ(), Sys: attr}); err != nil {
		return nil, err
	}
	if len(s.Cgroup.Procs) > 0 {
		if err := place(p.Pid, s.Cgroup.Procs); err != nil {
			return nil, err
		}
	}
	p.Pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	p.StartTime, err = linux.StartTime(p.Pid)
	return p, err
}

// place moves a process that stops itself first, and lets it go.
func place(pid int, files []string) error {
	if _, err := unix.Wait4(pid, nil, unix.WUNTRACED, nil); err != nil {
		return err
	}
	for _, file := range files {
		if err := linux.WriteKernel(file, fmt.Sprint(pid)); err != nil {
			return err
		}
	}
	return unix.Kill(pid, unix.SIGCONT)
}

func openTerminal(p *oci.Process) (slave *os.File, err error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	p.Console = os.NewFile(uintptr(master), "console")
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	return os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
}

type offsetReader struct {
	f   *os.File
	off int64
}

func (r *offsetReader) Read(b []byte) (int, error) {
	n, err := r.f.ReadAt(b, r.off)
	r.off += int64(n)
	return n, err
}

// plan makes the plan of a program.
func plan(t testing.TB, argv ...string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "plan")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := json.NewEncoder(f).Encode(argv); err != nil {
		t.Fatal(err)
	}
	return f
}
