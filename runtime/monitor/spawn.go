package monitor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// clientFD is the descriptor of a monitor's first client: the end of a socket
// pair. So who starts a monitor needs not wait for its socket to appear.
const clientFD = 3

// spawn starts a monitor that outlives this process: a session of its own, no
// PDEATHSIG (it would strike when the starting thread ends), output to a file.
func spawn(ctx context.Context, o Options, onEvent func(Exit)) (*client, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "monitor"), os.NewFile(uintptr(pair[1]), "monitor-client")
	defer theirs.Close()
	sock, err := fileConn(ours)
	if err != nil {
		return nil, err
	}
	logFile, err := os.OpenFile(filepath.Join(o.StateDir, "monitor.log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		sock.Close()
		return nil, fmt.Errorf("open the monitor's log: %w", err)
	}
	defer logFile.Close()

	cmd := exec.Command(o.Binary, "--socket", o.Socket, "--state", o.StateDir, "--init", o.Init,
		"--client-fd", fmt.Sprint(clientFD))
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		sock.Close()
		return nil, fmt.Errorf("start the monitor: %w", err)
	}
	theirs.Close()
	go cmd.Wait() // reap it; its death is seen at the socket
	c, err := newClient(ctx, sock, o.Build, onEvent)
	if err != nil {
		cmd.Process.Kill()
		return nil, fmt.Errorf("start %s (see %s): %w", o.Binary, logFile.Name(), err)
	}
	return c, nil
}
