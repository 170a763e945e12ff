package handler

import (
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/berth-cri/berth/runtime/oci/external"
)

// Handler is one way to run pods.
type Handler struct {
	Name     string
	External *external.Runtime // nil: the embedded runtime
	// PodAnnotations and ContainerAnnotations are patterns (path.Match) of the
	// annotations of pods and containers that the runtime is told.
	PodAnnotations, ContainerAnnotations []string
	// PrivilegedWithoutHostDevices: a privileged container gets no devices but
	// those that it names.
	PrivilegedWithoutHostDevices bool
}

// Annotations are those that the runtime is told; a container's goes before one of
// its pod with the same name.
func (h *Handler) Annotations(pod, container map[string]string) map[string]string {
	all := map[string]string{}
	pick(all, pod, h.PodAnnotations)
	pick(all, container, h.ContainerAnnotations)
	return all
}

func pick(to, from map[string]string, patterns []string) {
	for key, value := range from {
		if slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, key); return ok }) {
			to[key] = value
		}
	}
}

// UserNamespaces says why no pod of this handler can have a user namespace, or
// nil. What the host can do is another question.
func (h *Handler) UserNamespaces() error {
	if h.External == nil || h.External.Features.UserNamespaces() {
		return nil
	}
	return fmt.Errorf("the runtime of handler %s does not say that it has them: %w", h.Name, errdefs.ErrFailedPrecondition)
}

// RecursiveReadOnly says whether mounts can be read-only with all below them.
func (h *Handler) RecursiveReadOnly() bool {
	return h.External == nil || h.External.Features.RecursiveReadOnly()
}

// Set is the handlers of the node.
type Set struct {
	byName map[string]*Handler
}

// NewSet takes the handlers and the name of that which the empty name means.
func NewSet(standard string, all ...*Handler) (*Set, error) {
	s := &Set{byName: map[string]*Handler{}}
	for _, h := range all {
		s.byName[h.Name] = h
	}
	h, ok := s.byName[standard]
	if !ok {
		return nil, fmt.Errorf("default runtime handler %q is not configured: %w", standard, errdefs.ErrInvalidArgument)
	}
	s.byName[""] = h
	return s, nil
}

// Get finds a handler by name, the default by "".
func (s *Set) Get(name string) (*Handler, error) {
	if h, ok := s.byName[name]; ok {
		return h, nil
	}
	return nil, fmt.Errorf("runtime_handler %q is not configured (have %q): %w", name, s.Names(), errdefs.ErrInvalidArgument)
}

// External are the external runtimes.
func (s *Set) External() []*external.Runtime {
	var all []*external.Runtime
	for name, h := range s.byName {
		if h.External != nil && name != "" {
			all = append(all, h.External)
		}
	}
	return all
}

// Names are all names, sorted, with "" first.
func (s *Set) Names() []string { return slices.Sorted(maps.Keys(s.byName)) }
