package monitor

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// clientFD is the descriptor of a program's first client: the end of a socket
// pair. So who starts one needs not wait for its socket to appear.
const clientFD = 3

// spawn starts a monitor that outlives this process.
func spawn(ctx context.Context, o Options, onEvent func(Exit)) (*client, error) {
	logFile, err := os.OpenFile(filepath.Join(o.StateDir, ownLogFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the monitor's log: %w", err)
	}
	defer logFile.Close()
	cmd := exec.Command(o.Binary, "--socket", o.Socket, "--state", o.StateDir, "--init", o.Init)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	sock, err := detach(cmd)
	if err != nil {
		return nil, fmt.Errorf("start the monitor: %w", err)
	}
	go cmd.Wait() // reap it; its death is seen at the socket
	c, err := newClient(ctx, sock, o.Build, onEvent)
	if err != nil {
		cmd.Process.Kill()
		return nil, fmt.Errorf("start %s (see %s): %w", o.Binary, logFile.Name(), err)
	}
	return c, nil
}

// detach starts a program in a session of its own and returns the connection to
// it. No PDEATHSIG: it would strike when the starting thread ends.
func detach(cmd *exec.Cmd) (*net.UnixConn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "client")
	defer theirs.Close()
	sock, err := fileConn(os.NewFile(uintptr(pair[0]), "server"))
	if err != nil {
		return nil, err
	}
	cmd.Args = append(cmd.Args, "--client-fd", fmt.Sprint(clientFD))
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		sock.Close()
		return nil, err
	}
	return sock, nil
}
