package monitor

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/runtime/monitor/logs"
)

// spoolLimit is how far a client may lag behind the output of a container that
// it is attached to, in bytes for each stream, before it is let go. Neither the
// container nor its log ever waits for it.
const spoolLimit = 256 << 20

// attachment copies the output of a container to a client: into files of the
// client's, without a name, that it reads behind us and punches holes into. A
// byte in a pipe wakes it.
type attachment struct {
	id    string
	owner *session
	from  *container // nil: never attached
	wake  *os.File

	spools [2]*spool // by stream, nil: not wanted; guarded by the log's lock
	once   sync.Once // for end
}

// spool is one stream on its way to the client.
type spool struct {
	file    *os.File
	end     int64 // where the next byte goes
	checked int64 // end, when its size was last looked at
	limit   int64
}

// attachTo is opAttach. It owns the files.
func (s *Server) attachTo(owner *session, r AttachRequest) (err error) {
	a := &attachment{id: r.ID, owner: owner, wake: r.wake}
	for stream, f := range []*os.File{r.stdout, r.stderr} {
		if f != nil {
			a.spools[stream] = &spool{file: f, limit: spoolLimit}
		}
	}
	defer func() {
		if err != nil {
			a.end(err)
		}
	}()
	if r.ID == "" || r.wake == nil {
		return fmt.Errorf("attach %q without a pipe: %w", r.ID, errdefs.ErrInvalidArgument)
	}
	c, err := s.find(r.ContainerID)
	if err != nil {
		return err
	}
	if !owner.attach(a) {
		return fmt.Errorf("attach %s to %s: %w", r.ID, r.ContainerID, errdefs.ErrAlreadyExists)
	}
	if !c.attach(a) {
		return fmt.Errorf("container %s is not running: %w", r.ContainerID, errdefs.ErrFailedPrecondition)
	}
	c.log.AddTap(a)
	return nil
}

// detachFrom is opDetach. One that has ended is no error.
func (s *Server) detachFrom(owner *session, id string) {
	if a := owner.attachment(id); a != nil {
		a.end(nil)
	}
}

// Output is called by the log, under its lock.
func (a *attachment) Output(s logs.Stream, b []byte) error {
	p := a.spools[s]
	if p == nil {
		return nil
	}
	err := p.write(b)
	if err == nil {
		err = a.signal()
	}
	if err != nil {
		go a.end(err) // which wants the log's lock
	}
	return err
}

func (p *spool) write(b []byte) error {
	n, err := p.file.WriteAt(b, p.end)
	p.end += int64(n)
	if err != nil {
		return fmt.Errorf("buffer the output: %w", err)
	}
	if p.end-p.checked < p.limit/64 {
		return nil
	}
	p.checked = p.end
	// What the client has read are holes.
	lag, err := linux.Allocated(p.file)
	if err == nil && lag > p.limit {
		err = fmt.Errorf("the client reads too slowly: it is %d MiB behind: %w", lag>>20, errdefs.ErrResourceExhausted)
	}
	return err
}

// signal wakes the client, unless it was and has not looked yet: so the pipe
// never holds more than one byte, and writing never waits.
func (a *attachment) signal() error {
	if pending, err := linux.Readable(a.wake); err != nil || pending > 0 {
		return err
	}
	_, err := a.wake.Write([]byte{0})
	return err
}

// end lets the client go: after all output it reads the reason, and then the end
// of the pipe. nil: the container has ended, or the client wanted it.
func (a *attachment) end(reason error) {
	a.once.Do(func() {
		if a.from != nil {
			a.from.log.RemoveTap(a)
			a.from.detach(a)
		}
		a.owner.forget(a)
		if a.wake != nil {
			if b, err := json.Marshal(toWire(reason)); err == nil {
				a.wake.Write(b)
			}
			a.wake.Close()
		}
		for _, p := range a.spools {
			if p != nil {
				p.file.Close()
			}
		}
	})
}

// attach ties an attachment to a running container.
func (c *container) attach(a *attachment) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exit != nil {
		return false
	}
	if c.attached == nil { // most containers never have one
		c.attached = map[*attachment]struct{}{}
	}
	c.attached[a] = struct{}{}
	a.from = c
	return true
}

func (c *container) detach(a *attachment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.attached, a)
}

// detachAll ends what is attached to a container that has exited.
func (c *container) detachAll() {
	c.mu.Lock()
	all := c.attached
	c.attached = nil
	c.mu.Unlock()
	for a := range all {
		a.end(nil)
	}
}

// attach makes an attachment end with the session; false when that has ended, or
// has one with this id.
func (c *session) attach(a *attachment) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone || c.attached[a.id] != nil {
		return false
	}
	c.attached[a.id] = a
	return true
}

func (c *session) attachment(id string) *attachment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.attached[id]
}

func (c *session) forget(a *attachment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.attached[a.id] == a {
		delete(c.attached, a.id)
	}
}
