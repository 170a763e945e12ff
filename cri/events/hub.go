package events

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Waiting is how many events may wait for one listener: those of a burst of
// some hundred pods, at about a kilobyte each.
const Waiting = 4096

// Event is what a listener gets. Listeners share it: it must not be changed.
type Event = runtimeapi.ContainerEventResponse

// Hub is the place where events are published. The zero value is ready.
type Hub struct {
	listening atomic.Int32
	dropped   atomic.Uint64 // listeners that were too slow

	mu        sync.Mutex
	last      int64                  // guarded by mu: the time of the last event
	listeners map[*Listener]struct{} // guarded by mu
	closed    bool                   // guarded by mu
}

// Publish gives every listener the event that describe makes for a time, in
// nanoseconds since the epoch. describe is called only when somebody listens,
// with the hub locked: it must not wait for anything.
func (h *Hub) Publish(describe func(at int64) *Event) {
	if h.listening.Load() == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = max(h.last+1, time.Now().UnixNano()) // whatever is done to the clock
	e := describe(h.last)
	e.CreatedAt = h.last
	for l := range h.listeners {
		if !l.add(e) {
			h.dropped.Add(1)
			h.forget(l)
		}
	}
}

// Listen begins to listen: from its return on no event is missed.
func (h *Hub) Listen() (*Listener, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errClosed
	}
	l := &Listener{hub: h, wake: make(chan struct{}, 1)}
	if h.listeners == nil {
		h.listeners = map[*Listener]struct{}{}
	}
	h.listeners[l] = struct{}{}
	h.listening.Add(1)
	return l, nil
}

var errClosed = fmt.Errorf("events: the daemon stops: %w", errdefs.ErrUnavailable)

// Counts are how many listen, and how many were let go since they did not read.
func (h *Hub) Counts() (listening int, dropped uint64) {
	return int(h.listening.Load()), h.dropped.Load()
}

// Close ends all listeners, each after what waits for it.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for l := range h.listeners {
		l.end(errClosed)
		h.forget(l)
	}
}

// forget needs mu.
func (h *Hub) forget(l *Listener) {
	if _, ok := h.listeners[l]; ok {
		delete(h.listeners, l)
		h.listening.Add(-1)
	}
}

// Listener is one reader's place.
type Listener struct {
	hub  *Hub
	wake chan struct{} // has one when there is news for Next

	mu    sync.Mutex
	queue []*Event // guarded by mu
	err   error    // guarded by mu: why there will be no more
}

// add is false when the reader is too slow: what waited is lost with the rest.
func (l *Listener) add(e *Event) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) < Waiting {
		l.queue = append(l.queue, e)
		l.signal()
		return true
	}
	l.queue = nil
	l.err = fmt.Errorf("events were lost, as %d waited to be read: list containers again, then listen: %w", Waiting, errdefs.ErrResourceExhausted)
	l.signal()
	return false
}

func (l *Listener) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	l.signal()
}

func (l *Listener) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Next waits for the next event. The error says why there will be none.
func (l *Listener) Next(ctx context.Context) (*Event, error) {
	for {
		if e, err := l.take(); e != nil || err != nil {
			return e, err
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *Listener) take() (*Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return nil, l.err
	}
	e := l.queue[0]
	l.queue[0] = nil // for the garbage collector
	if l.queue = l.queue[1:]; len(l.queue) == 0 {
		l.queue = nil
	}
	return e, nil
}

// Close stops listening.
func (l *Listener) Close() {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	l.hub.forget(l)
}
