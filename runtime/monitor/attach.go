package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/errdefs"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/monitor/logs"
)

// Attachment is the output of a container from the moment of Attach on.
type Attachment struct {
	id      string
	monitor *Supervisor
	wake    *os.File
	spools  [2]*spoolReader // by stream; nil: not wanted
}

// spoolReader is the reading end of a spool.
type spoolReader struct {
	file  *os.File
	next  int64 // where the next byte is
	freed int64 // what lies before has been given back
}

// Attach begins to copy what a container prints, into files without a name on
// the file system of spoolDir. ErrFailedPrecondition: it has exited.
func (s *Supervisor) Attach(ctx context.Context, id, attachID, spoolDir string, stdout, stderr bool) (_ *Attachment, err error) {
	c, err := s.client(ctx)
	if err != nil {
		return nil, err
	}
	a := &Attachment{id: attachID, monitor: s}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	var wake *os.File
	if a.wake, wake, err = linux.Pipe(); err != nil {
		return nil, err
	}
	defer wake.Close()
	files := []sent{{fileWake, wake}}
	for stream, wanted := range []bool{stdout, stderr} {
		if !wanted {
			continue
		}
		f, err := linux.Tmpfile(spoolDir)
		if err != nil {
			return nil, fmt.Errorf("buffer for %s: %w", logs.Stream(stream), err)
		}
		a.spools[stream] = &spoolReader{file: f}
		files = append(files, sent{logs.Stream(stream).String(), f})
	}
	if _, err := c.call(ctx, opAttach, AttachRequest{ContainerID: id, ID: attachID}, files, nil); err != nil {
		s.detach(attachID) // it may have worked all the same
		return nil, fmt.Errorf("attach to %s: %w", id, err)
	}
	return a, nil
}

// Copy moves the output to the writers until the container has exited (nil),
// Detach was called (nil), the context ended, a write failed, the writers were
// too slow (ErrResourceExhausted), or the monitor died (ErrUnavailable). What
// was printed before the end is written before it returns. A writer for a stream
// that was not asked for may be nil.
func (a *Attachment) Copy(ctx context.Context, stdout, stderr io.Writer) error {
	defer a.close()
	wake := a.wake
	defer context.AfterFunc(ctx, func() { wake.SetReadDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, 32<<10)
	var end []byte
	for {
		n, err := wake.Read(buf)
		end = append(end, bytes.Trim(buf[:n], "\x00")...)
		if ctx.Err() != nil {
			a.monitor.detach(a.id)
			return ctx.Err()
		}
		for stream, to := range []io.Writer{stdout, stderr} {
			if r := a.spools[stream]; r != nil {
				if err := r.copy(to, buf); err != nil {
					a.monitor.detach(a.id)
					return fmt.Errorf("write %s: %w", logs.Stream(stream), err)
				}
			}
		}
		if err != nil {
			return verdict(end, err)
		}
	}
}

// verdict is why the wake pipe has ended.
func verdict(end []byte, err error) error {
	var reason *wireError
	switch {
	case !errors.Is(err, io.EOF):
		return err
	case json.Unmarshal(end, &reason) != nil:
		return errMonitorDied
	case reason != nil:
		return reason.err()
	}
	return nil
}

var errMonitorDied = fmt.Errorf("the monitor was replaced; attach again: %w", errdefs.ErrUnavailable)

// copy moves what is there.
func (r *spoolReader) copy(to io.Writer, buf []byte) error {
	for {
		n, err := r.file.ReadAt(buf, r.next)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
			r.next += int64(n)
			r.free()
		}
		if err != nil { // io.EOF: for now
			return nonEOF(err)
		}
	}
}

func nonEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// free gives back what was read, now and then. A file system that cannot do it
// makes the limit of the lag one of the whole output.
func (r *spoolReader) free() {
	const step = 1 << 20
	if n := (r.next - r.freed) / step * step; n > 0 {
		linux.PunchHole(r.file, r.freed, n)
		r.freed += n
	}
}

// Detach ends Copy as soon as it has written what was printed so far.
func (a *Attachment) Detach() { a.monitor.detach(a.id) }

func (a *Attachment) close() {
	if a.wake != nil {
		a.wake.Close()
	}
	for _, r := range a.spools {
		if r != nil {
			r.file.Close()
		}
	}
}

// detach ends an attachment, if it is there.
func (s *Supervisor) detach(id string) {
	ctx, cancel := context.WithTimeout(s.ctx, detachTimeout)
	defer cancel()
	if err := s.simple(ctx, opDetach, id, target{id}); err != nil {
		s.opts.Log.Debug("detach", "attachment", id, "error", err) // it ended with the monitor
	}
}

// detachTimeout bounds the wait for a monitor that is being replaced.
const detachTimeout = time.Second
