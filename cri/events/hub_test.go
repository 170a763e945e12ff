package events

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// publish publishes an event that is known by its text.
func publish(h *Hub, text string) {
	h.Publish(func(int64) *Event { return &Event{ContainerId: text} })
}

func listen(t *testing.T, h *Hub) *Listener {
	t.Helper()
	l, err := h.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func want(t *testing.T, l *Listener, text string) *Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	e, err := l.Next(ctx)
	if err != nil || e.ContainerId != text {
		t.Fatalf("%v, %v; want %s", e, err, text)
	}
	return e
}

func TestEverybodyHearsEverythingInOrder(t *testing.T) {
	var h Hub
	publish(&h, "nobody listens")
	one, two := listen(t, &h), listen(t, &h)
	for i := range 100 {
		publish(&h, fmt.Sprint(i))
	}
	late := listen(t, &h)
	publish(&h, "last")
	for _, l := range []*Listener{one, two} {
		before := int64(0)
		for i := range 100 {
			e := want(t, l, fmt.Sprint(i))
			if e.CreatedAt <= before {
				t.Fatalf("event %d at %d, the one before at %d", i, e.CreatedAt, before)
			}
			before = e.CreatedAt
		}
	}
	for _, l := range []*Listener{one, two, late} {
		want(t, l, "last")
	}
}

// What describe sees is never older than what the event before has seen.
func TestNoEventTellsLessThanTheOneBefore(t *testing.T) {
	var h Hub
	l := listen(t, &h)
	var state sync.Map
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 500 {
				state.Store(w, int64(i))
				h.Publish(func(at int64) *Event {
					e := &Event{}
					for w := range 4 { // the state of all, in a field that can hold it
						n, _ := state.LoadOrStore(w, int64(-1))
						e.ContainerId += fmt.Sprintf("%d ", n.(int64)+1)
					}
					return e
				})
			}
		})
	}
	writers.Wait()
	var before [4]int
	for range 2000 {
		e, err := l.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var now [4]int
		fmt.Sscan(e.ContainerId, &now[0], &now[1], &now[2], &now[3])
		for w := range now {
			if now[w] < before[w] {
				t.Fatalf("%v after %v", now, before)
			}
		}
		before = now
	}
}

func TestSlowReader(t *testing.T) {
	var h Hub
	slow, quick := listen(t, &h), listen(t, &h)
	for i := range Waiting + 10 { // nobody reads slow, and this does not wait for it
		publish(&h, fmt.Sprint(i))
		want(t, quick, fmt.Sprint(i))
	}
	if e, err := slow.Next(t.Context()); !errdefs.IsResourceExhausted(err) {
		t.Fatalf("%v, %v", e, err)
	}
	publish(&h, "after")
	want(t, quick, "after")
	if e, err := slow.Next(t.Context()); !errdefs.IsResourceExhausted(err) {
		t.Errorf("afterwards: %v, %v", e, err)
	}
	if n := h.listening.Load(); n != 1 {
		t.Errorf("%d listen", n)
	}
	again := listen(t, &h)
	publish(&h, "again")
	want(t, again, "again")
}

func TestEnds(t *testing.T) {
	var h Hub
	l := listen(t, &h)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Next(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("of a client that went away: %v", err)
	}
	left := listen(t, &h)
	left.Close()
	left.Close()
	if n := h.listening.Load(); n != 1 {
		t.Errorf("%d listen", n)
	}
	publish(&h, "one")
	h.Close()
	want(t, l, "one")
	if _, err := l.Next(t.Context()); !errdefs.IsUnavailable(err) {
		t.Errorf("at the end: %v", err)
	}
	if _, err := h.Listen(); !errdefs.IsUnavailable(err) {
		t.Errorf("after the end: %v", err)
	}
	publish(&h, "nobody")
}

func BenchmarkPublish(b *testing.B) {
	var h Hub
	for b.Loop() {
		publish(&h, "nobody listens")
	}
}
