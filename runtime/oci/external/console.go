package external

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/runtime/oci"
)

// console is where a runtime sends the master of a terminal that it has made.
type console struct {
	path     string
	listener *net.UnixListener
}

// consoleLimit bounds the wait for a master: the runtime has ended by then.
const consoleLimit = 5 * time.Second

func listenConsole(path string) (*console, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("wait for a terminal: %w", err)
	}
	return &console{path, l}, nil
}

func (c *console) close() { c.listener.Close() }

func (c *console) accept(ctx context.Context) (*os.File, error) {
	f, err := c.receive()
	if err != nil {
		return nil, &oci.StepError{Step: "terminal", Detail: err.Error()}
	}
	return f, ctx.Err()
}

func (c *console) receive() (*os.File, error) {
	c.listener.SetDeadline(time.Now().Add(consoleLimit))
	conn, err := c.listener.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(consoleLimit))
	name, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(name, rights)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) == 0 {
		return nil, fmt.Errorf("the runtime sent no terminal: %v", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return nil, fmt.Errorf("the runtime sent no terminal: %v", err)
	}
	_ = unix.SetNonblock(fds[0], true) // for Go's poller
	return os.NewFile(uintptr(fds[0]), "console"), nil
}
