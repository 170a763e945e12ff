package monitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// errBadMessage is a message that cannot be understood; the connection goes on.
var errBadMessage = errors.New("bad message")

// conn sends and receives envelopes. One goroutine may receive while another
// sends.
type conn struct {
	sock *net.UnixConn
	in   []byte
	oob  []byte
}

func newConn(sock *net.UnixConn) *conn {
	return &conn{sock: sock, in: make([]byte, maxMessage), oob: make([]byte, unix.CmsgSpace(4*maxFiles))}
}

// encode makes an envelope with a body.
func encode(e envelope, body any) ([]byte, error) {
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", e.Op, err)
		}
		e.Body = b
	}
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", e.Op, err)
	}
	if len(b) > maxMessage {
		return nil, fmt.Errorf("encode %s: message of %d bytes, more than %d", e.Op, len(b), maxMessage)
	}
	return b, nil
}

// send writes one message. The files stay the caller's.
func (c *conn) send(data []byte, files []*os.File, deadline time.Time) error {
	c.sock.SetWriteDeadline(deadline)
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, 0, maxFiles)
		// Control keeps each file from being closed until it was sent.
		var walk func(rest []*os.File) error
		walk = func(rest []*os.File) error {
			if len(rest) == 0 {
				oob = unix.UnixRights(fds...)
				_, _, err := c.sock.WriteMsgUnix(data, oob, nil)
				return err
			}
			raw, err := rest[0].SyscallConn()
			if err != nil {
				return err
			}
			var inner error
			err = raw.Control(func(fd uintptr) {
				fds = append(fds, int(fd))
				inner = walk(rest[1:])
			})
			return errors.Join(err, inner)
		}
		return walk(files)
	}
	_, _, err := c.sock.WriteMsgUnix(data, nil, nil)
	return err
}

// receive reads one message. Its files are the caller's. errBadMessage comes
// with what could be read of the envelope.
func (c *conn) receive() (envelope, map[string]*os.File, error) {
	n, oobn, flags, _, err := c.sock.ReadMsgUnix(c.in, c.oob)
	if err != nil {
		return envelope{}, nil, err
	}
	fds, err := parseRights(c.oob[:oobn])
	var e envelope
	switch {
	case err != nil:
	case flags&unix.MSG_TRUNC != 0:
		err = fmt.Errorf("%w: longer than %d bytes", errBadMessage, maxMessage)
	case flags&unix.MSG_CTRUNC != 0:
		err = fmt.Errorf("%w: more than %d files", errBadMessage, maxFiles)
	default:
		if json.Unmarshal(c.in[:n], &e) != nil {
			err = fmt.Errorf("%w: not an envelope", errBadMessage)
		} else if len(e.Files) != len(fds) {
			err = fmt.Errorf("%w: %d files, %d names", errBadMessage, len(fds), len(e.Files))
		}
	}
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return e, nil, err
	}
	files := make(map[string]*os.File, len(fds))
	for i, fd := range fds {
		if old := files[e.Files[i]]; old != nil {
			old.Close()
		}
		files[e.Files[i]] = os.NewFile(uintptr(fd), e.Files[i])
	}
	return e, files, nil
}

func parseRights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errBadMessage, err)
	}
	var fds []int
	for _, m := range msgs {
		if got, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds, nil
}

func closeAll(files map[string]*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// fileConn makes a connection of an inherited socket; it owns f.
func fileConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("%s is not a unix socket", f.Name())
	}
	return u, nil
}
