package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sync/singleflight"
)

// Under the systemd driver a pod has one scope, a unit that systemd makes on
// request around a process, and hands over whole (Delegate=yes): what is below
// it systemd neither looks at nor changes, also when it is reloaded
// (systemd's CGROUP_DELEGATION, "delegation"). There the containers' cgroups are
// made and limited as the cgroupfs driver does it:
//
//	kubepods-pod7.slice/        the kubelet's, with the pod's limits
//	  berth-POD.scope/          systemd's
//	    hold/                   the holder
//	    CONTAINER/              Berth's
//
// A scope for each container would cost each start a round trip to PID 1, which
// serves one request at a time, have every limit in two places, and go with the
// container's last process: with memory.events, before anybody has read who was
// killed for memory (containerd#8180). So a scope is for the pod, and the holder,
// a process that sleeps, keeps it until the pod is stopped.
type scopes struct {
	h       *hierarchy
	bus     *bus
	booting singleflight.Group

	mu      sync.Mutex
	holders map[string]*os.Process // by scope; those of an earlier daemon are init's children
}

const holdDir = "/hold"

func newScopes(h *hierarchy, address string) *scopes {
	return &scopes{h: h, bus: newBus(address), holders: map[string]*os.Process{}}
}

// scopeLimit bounds the start of a scope. systemd answers in milliseconds, but
// for seconds not at all while it is reloaded.
const scopeLimit = 30 * time.Second

// scopeName is the unit of a pod. Programs that look for a container's id in the
// last part of a path find it as with the cgroupfs driver.
func scopeName(pod string) string { return "berth-" + pod + ".scope" }

// slicePath is the cgroup of a slice: a-b-c.slice is in a-b.slice, in a.slice.
// The kubelet sends the whole path, people the name.
func slicePath(parent string) (string, error) {
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("cgroup parent %q %s: %w", parent, why, errdefs.ErrInvalidArgument)
	}
	name, ok := strings.CutSuffix(path.Base(parent), ".slice")
	if !ok || strings.Count(parent, ":") > 0 {
		return bad("is not a systemd slice, but the cgroup driver is systemd; kubelet and runtime must use the same driver")
	}
	if name == "-" {
		return bad("is the root slice, which is for systemd alone")
	}
	full, prefix := "", ""
	for part := range strings.SplitSeq(name, "-") {
		if part == "" || strings.ContainsFunc(part, notInUnitName) {
			return bad("is not the name of a slice")
		}
		prefix += part
		full += "/" + prefix + ".slice"
		prefix += "-"
	}
	if len(name) > 240 {
		return bad("is too long for the name of a unit")
	}
	if strings.Contains(parent, "/") && strings.Trim(parent, "/") != full[1:] {
		return bad("is not where systemd has that slice, which is " + full)
	}
	return full, nil
}

// notInUnitName says what systemd does not take (unit_name_is_valid), but for
// the dash.
func notInUnitName(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(`:_.\`, r))
}

// ensure makes the scope of a container's cgroup, if it is not there. Containers
// of one pod that start together share the work.
func (s *scopes) ensure(ctx context.Context, scope string) error {
	if name := path.Base(scope); !strings.HasPrefix(name, "berth-") || !strings.HasSuffix(name, ".scope") {
		return fmt.Errorf("%q is not a pod's scope; was the cgroup driver changed while the pod ran? %w", scope, errdefs.ErrFailedPrecondition)
	}
	if _, err := os.Stat(s.h.dir(scope) + holdDir); err == nil {
		return nil
	}
	_, err, _ := s.booting.Do(scope, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), scopeLimit)
		defer cancel()
		return nil, s.start(ctx, scope)
	})
	if err != nil {
		return fmt.Errorf("systemd scope %s: %w", path.Base(scope), err)
	}
	return nil
}

func (s *scopes) start(ctx context.Context, scope string) (err error) {
	dir := s.h.dir(scope)
	if _, err := os.Stat(dir + holdDir); err == nil {
		return nil // made while we waited for our turn
	}
	hold, err := startHolder()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			hold.end()
		}
	}()
	properties := []systemd.Property{
		systemd.PropDescription("Berth pod " + strings.TrimSuffix(strings.TrimPrefix(path.Base(scope), "berth-"), ".scope")),
		systemd.PropSlice(path.Base(path.Dir(scope))),
		systemd.PropPids(uint32(hold.pid())),
		property("Delegate", true),
		// The limits are in the slice and in the containers; the default of
		// TasksMax is a limit too.
		property("TasksMax", ^uint64(0)),
		property("CPUAccounting", true),
		property("MemoryAccounting", true),
		property("IOAccounting", true),
		property("TasksAccounting", true),
		// At shutdown the kubelet ends pods in its order; systemd does not
		// begin by stopping all scopes.
		property("DefaultDependencies", false),
		property("CollectMode", "inactive-or-failed"),
	}
	if err := s.bus.startScope(ctx, path.Base(scope), properties, func() bool { return holds(dir, hold.pid()) }); err != nil {
		return err
	}
	if err := settle(dir, hold.pid()); err != nil {
		return err
	}
	s.mu.Lock()
	dead := s.holders[scope]
	s.holders[scope] = hold.stay()
	s.mu.Unlock()
	if dead != nil { // somebody killed it, and the scope went with it
		_, _ = dead.Wait()
	}
	return nil
}

func property(name string, value any) systemd.Property {
	return systemd.Property{Name: name, Value: dbus.MakeVariant(value)}
}

// holds says whether a process is in the scope.
func holds(dir string, pid int) bool {
	pids, err := pidsBelow(dir)
	if err != nil {
		return false
	}
	for _, p := range pids {
		if p == pid {
			return true
		}
	}
	return false
}

// settle moves the holder into a cgroup of its own: a cgroup that hands out
// controllers has no processes (cgroup-v2.rst, "no internal process constraint").
// So may be one whose daemon was killed right here: everything in the scope
// itself moves.
func settle(dir string, pid int) error {
	if err := linux.Mkdir(dir+holdDir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("systemd started it, but not at %s: %w", dir, errdefs.ErrFailedPrecondition)
		}
		return err
	}
	b, err := linux.ReadKernel(dir+"/cgroup.procs", nil)
	if err != nil {
		return err
	}
	inside, err := parsePids(b)
	if err != nil {
		return err
	}
	for _, p := range inside {
		err := linux.WriteKernel(dir+holdDir+"/cgroup.procs", strconv.Itoa(p))
		if err != nil && p == pid {
			return err
		}
	}
	return nil
}

// remove ends the holder; systemd removes the scope when it finds it empty.
func (s *scopes) remove(ctx context.Context, m *Manager, scope string) error {
	hold := &Cgroup{m: m, path: scope + holdDir}
	err := hold.Kill(ctx)
	s.mu.Lock()
	holder := s.holders[scope]
	delete(s.holders, scope)
	s.mu.Unlock()
	if holder != nil {
		_ = holder.Kill() // also one that somebody has moved
		_, _ = holder.Wait()
	}
	if err := errors.Join(err, hold.Remove(ctx)); err != nil {
		return err
	}
	if some, err := m.Load(scope).Populated(); err != nil || some {
		return errors.Join(err, fmt.Errorf("scope %s has processes still: %w", path.Base(scope), errdefs.ErrFailedPrecondition))
	}
	return nil
}
