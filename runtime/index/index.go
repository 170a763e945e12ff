package index

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
)

// Index is a table of objects of one kind ("pod sandbox", "container").
type Index[T any] struct {
	kind string
	mu   sync.RWMutex
	byID map[string]T      // guarded by mu
	name map[string]string // guarded by mu: name → id
	list []string          // guarded by mu: ids in order of adding
}

// New returns an empty index; kind is the word in its errors.
func New[T any](kind string) *Index[T] {
	return &Index[T]{kind: kind, byID: map[string]T{}, name: map[string]string{}}
}

// NewID returns 64 random hexadecimal characters, the form that kubelet and
// crictl know from every runtime.
func NewID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Add puts an object in. ErrAlreadyExists when its id or name is in use.
func (x *Index[T]) Add(id, name string, v T) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if other, ok := x.name[name]; ok {
		return fmt.Errorf("name %q is in use by %s %s: %w", name, x.kind, other, errdefs.ErrAlreadyExists)
	}
	if _, ok := x.byID[id]; ok {
		return fmt.Errorf("%s %s: %w", x.kind, id, errdefs.ErrAlreadyExists)
	}
	x.byID[id], x.name[name] = v, id
	x.list = append(x.list, id)
	return nil
}

// Get finds an object by its id or a unique prefix of it. ErrNotFound when
// there is none, ErrInvalidArgument when the prefix fits several (the caller
// must not take "ambiguous" for "gone").
func (x *Index[T]) Get(id string) (T, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if v, ok := x.byID[id]; ok {
		return v, nil
	}
	var none T
	found := ""
	if id != "" {
		for _, full := range x.list {
			if strings.HasPrefix(full, id) {
				if found != "" {
					return none, fmt.Errorf("%s id %q is ambiguous: %w", x.kind, id, errdefs.ErrInvalidArgument)
				}
				found = full
			}
		}
	}
	if found == "" {
		return none, fmt.Errorf("%s %q: %w", x.kind, id, errdefs.ErrNotFound)
	}
	return x.byID[found], nil
}

// Named finds an object by its name.
func (x *Index[T]) Named(name string) (T, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	v, ok := x.byID[x.name[name]]
	return v, ok
}

// Remove takes an object out and frees its name.
func (x *Index[T]) Remove(id, name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.byID[id]; !ok {
		return
	}
	delete(x.byID, id)
	if x.name[name] == id {
		delete(x.name, name)
	}
	if i := slices.Index(x.list, id); i >= 0 {
		x.list = slices.Delete(x.list, i, i+1)
	}
}

// All returns the objects in the order of adding.
func (x *Index[T]) All() []T {
	x.mu.RLock()
	defer x.mu.RUnlock()
	all := make([]T, 0, len(x.list))
	for _, id := range x.list {
		all = append(all, x.byID[id])
	}
	return all
}
