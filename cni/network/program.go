package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
)

// What a plugin may say, in bytes.
const (
	maxStdout = 4 << 20
	maxStderr = 64 << 10
)

var errTooMuch = errors.New("plugin wrote too much")

// run runs a plugin that is a program.
func (d *dispatcher) run(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	for try := 0; ; try++ {
		out, err := d.runOnce(ctx, path, stdin, environ)
		// Somebody is writing the program: an installer that copies in place.
		if try < 10 && errors.Is(err, unix.ETXTBSY) {
			select {
			case <-time.After(200 * time.Millisecond):
				continue
			case <-ctx.Done():
			}
		}
		return out, err
	}
}

func (d *dispatcher) runOnce(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	stdout, stderr := &limited{max: maxStdout, fail: true}, &limited{max: maxStderr}
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = environ
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), stdout, stderr
	// A plugin that hangs mostly hangs in a child of its own.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	// A daemon that it left behind may keep its standard output.
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // exited with 0, all it said is there
	}
	if err == nil {
		if stderr.buf.Len() > 0 {
			d.log.Debug("CNI plugin", "path", path, "stderr", stderr.buf.String())
		}
		if slices.Contains(environ, "CNI_COMMAND=ADD") {
			err = checkResult(stdout.buf.Bytes())
		}
		return stdout.buf.Bytes(), err
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("CNI plugin %s killed: %w", path, context.Cause(ctx))
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return nil, fmt.Errorf("CNI plugin %s: %w", path, err)
	}
	return nil, pluginError(stdout.buf.Bytes(), stderr.buf.String(), err)
}

// pluginError is what a plugin that failed says about it: JSON on its standard
// output, by the specification.
func pluginError(stdout []byte, stderr string, exit error) error {
	e := &types.Error{}
	if len(stdout) > 0 {
		if err := json.Unmarshal(stdout, e); err == nil && (e.Msg != "" || e.Code != 0) {
			return e
		}
		if len(stdout) > 1024 {
			stdout = stdout[:1024]
		}
		return &types.Error{Code: types.ErrUnknown, Msg: fmt.Sprintf("netplugin failed (%v) without a CNI error: %q", exit, stdout), Details: stderr}
	}
	if stderr != "" {
		return &types.Error{Code: types.ErrUnknown, Msg: fmt.Sprintf("netplugin failed (%v): %q", exit, stderr)}
	}
	return &types.Error{Code: types.ErrUnknown, Msg: fmt.Sprintf("netplugin failed with no error message: %v", exit)}
}

// limited keeps the first max bytes and then fails, or goes on without keeping.
// The buffer is not embedded: its ReadFrom would take all.
type limited struct {
	buf  bytes.Buffer
	max  int
	fail bool
}

func (l *limited) Write(b []byte) (int, error) {
	room := l.max - l.buf.Len()
	if len(b) <= room {
		return l.buf.Write(b)
	}
	l.buf.Write(b[:room])
	if l.fail {
		return room, errTooMuch
	}
	return len(b), nil
}

// checkResult finds what the types of libcni cannot stand: a null in a list
// becomes a nil pointer that its conversions follow.
func checkResult(out []byte) error {
	var r struct {
		Interfaces []*json.RawMessage `json:"interfaces"`
		IPs        []*json.RawMessage `json:"ips"`
		Routes     []*json.RawMessage `json:"routes"`
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return fmt.Errorf("CNI result: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if slices.Contains(slices.Concat(r.Interfaces, r.IPs, r.Routes), nil) {
		return fmt.Errorf("CNI result has a null in a list: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}
