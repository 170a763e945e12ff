package nri

import (
	"sync"
	"sync/atomic"
)

// registry are the pods and containers that plugins have heard of and whose end
// they are to hear of.
type registry struct {
	mu  sync.Mutex
	all map[string]*known // by id
}

// known is what plugins know of a pod or container.
type known struct {
	started bool // guarded by registry.mu: a container's start was told

	// order is held while the end of this one pod or container is told: once,
	// and after all that came before. Nothing else waits for it.
	order            sync.Mutex
	stopped, removed atomic.Bool // set with order held
}

// stop and remove run f the first time; alive runs it before the first stop.
func (k *known) stop(f func())   { k.once(&k.stopped, f) }
func (k *known) remove(f func()) { k.once(&k.removed, f) }

func (k *known) once(told *atomic.Bool, f func()) {
	k.order.Lock()
	defer k.order.Unlock()
	if !told.Swap(true) {
		f()
	}
}

func (k *known) alive(f func()) {
	k.order.Lock()
	defer k.order.Unlock()
	if !k.stopped.Load() {
		f()
	}
}

// add is idempotent.
func (r *registry) add(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[string]*known{}
	}
	if r.all[id] == nil {
		r.all[id] = &known{}
	}
}

// get returns nil for what plugins do not know.
func (r *registry) get(id string) *known {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[id]
}

func (r *registry) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, id)
}

func (r *registry) setStarted(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.all[id]; k != nil {
		k.started = true
	}
}

func (r *registry) started(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.all[id]
	return k != nil && k.started
}
