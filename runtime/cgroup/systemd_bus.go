package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// bus is the line to systemd: one connection, made when it is first needed and
// kept. It is systemd's own socket, so that no message bus has to run.
type bus struct {
	address string
	slots   chan struct{} // jobs at once: PID 1 does one thing at a time, and has other work

	mu   sync.Mutex
	line *line
}

const (
	systemdAddress = "unix:path=/run/systemd/private"
	busJobs        = 8
	busTries       = 4
	busPause       = 50 * time.Millisecond // doubled after each try
)

func newBus(address string) *bus {
	return &bus{address: address, slots: make(chan struct{}, busJobs)}
}

// line is one connection. The library makes it of two, for calls and signals,
// and does not say when one of them has ended.
type line struct {
	*systemd.Conn
	parts []*dbus.Conn
}

func dial(address string) (*line, error) {
	l := &line{}
	conn, err := systemd.NewConnection(func() (*dbus.Conn, error) {
		c, err := dbus.Dial(address)
		if err != nil {
			return nil, err
		}
		if err := c.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))}); err != nil {
			c.Close()
			return nil, err
		}
		l.parts = append(l.parts, c)
		return c, nil
	})
	if err != nil {
		return nil, fmt.Errorf("connect to systemd at %s: %w: %w", address, err, errdefs.ErrUnavailable)
	}
	l.Conn = conn
	return l, nil
}

func (b *bus) connect() (*line, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.line != nil && b.line.Connected() {
		return b.line, nil
	}
	if b.line != nil {
		b.line.Close()
		b.line = nil
	}
	l, err := dial(b.address)
	if err != nil {
		return nil, err
	}
	b.line = l
	return l, nil
}

// startScope starts a transient scope and returns when systemd has put its
// processes there. there says whether it has, for the case that its answer was
// lost.
func (b *bus) startScope(ctx context.Context, name string, properties []systemd.Property, there func() bool) error {
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	case <-ctx.Done():
		return fmt.Errorf("wait for other requests to systemd: %w", ctx.Err())
	}
	pause := busPause
	for try := 1; ; try++ {
		err := b.tryScope(ctx, name, properties)
		if err == nil || there() {
			return nil
		}
		if try == busTries || ctx.Err() != nil || !again(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
			pause *= 2
		}
	}
}

func (b *bus) tryScope(ctx context.Context, name string, properties []systemd.Property) error {
	l, err := b.connect()
	if err != nil {
		return err
	}
	done := make(chan string, 1)
	if _, err := l.StartTransientUnitContext(ctx, name, "replace", properties, done); err != nil {
		var refused dbus.Error
		if !errors.As(err, &refused) {
			return fmt.Errorf("start: %w: %w", err, errdefs.ErrUnavailable)
		}
		if refused.Name == unitExists {
			// Of a start that failed: it would stay so for ever.
			_ = l.ResetFailedUnitContext(ctx, name)
		}
		return fmt.Errorf("start: %w", err)
	}
	select {
	case result := <-done:
		if result == "done" {
			return nil
		}
		_ = l.ResetFailedUnitContext(ctx, name)
		return fmt.Errorf("start: systemd says %q: %w", result, errdefs.ErrInternal)
	case <-l.parts[0].Context().Done():
		return errLost
	case <-l.parts[1].Context().Done():
		return errLost
	case <-ctx.Done():
		return fmt.Errorf("wait for systemd to start it: %w", ctx.Err())
	}
}

const unitExists = "org.freedesktop.systemd1.UnitExists"

var errLost = fmt.Errorf("systemd ended the connection: %w", errdefs.ErrUnavailable)

// again says whether another try may succeed: systemd was not to be reached, was
// busy, or has a unit of that name on its way out.
func again(err error) bool {
	var refused dbus.Error
	if !errors.As(err, &refused) {
		return true // not systemd's answer, but that of the line
	}
	for _, name := range []string{
		unitExists,
		"org.freedesktop.systemd1.TransactionIsDestructive", // the slice is being stopped
		"org.freedesktop.DBus.Error.Disconnected",
		"org.freedesktop.DBus.Error.LimitsExceeded",
		"org.freedesktop.DBus.Error.NoReply",
		"org.freedesktop.DBus.Error.Timeout",
		"org.freedesktop.DBus.Error.TimedOut",
	} {
		if refused.Name == name {
			return true
		}
	}
	return false
}
