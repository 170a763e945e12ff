package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	systemd "github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// scopeLimit bounds what systemd takes to make a scope.
const scopeLimit = 5 * time.Second

// settle moves the monitor with its descriptor store out of the daemon's unit
// into a scope of its own, where systemd runs the machine: what systemd does to
// the unit, be it to stop, to kill or to limit it, must not reach what outlives
// the daemon. Where it fails, KillMode=process of the unit is what is left.
func settle(pid int, log *slog.Logger) {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return
	}
	name := fmt.Sprintf("berth-monitor-%d.scope", pid)
	if in, err := unitOf(pid); err != nil || strings.HasPrefix(in, "berth-monitor-") {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), scopeLimit)
	defer cancel()
	if err := makeScope(ctx, name, pid); err != nil {
		log.Warn("the monitor stays in the daemon's unit", "error", err)
		return
	}
	log.Info("the monitor has a scope of its own", "scope", name)
}

func makeScope(ctx context.Context, name string, pid int) error {
	// systemd's own socket: it is there where no bus is.
	conn, err := systemd.NewSystemdConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("connect to systemd: %w", err)
	}
	defer conn.Close()
	_, err = conn.StartTransientUnitContext(ctx, name, "fail", []systemd.Property{
		systemd.PropDescription("Processes that keep Berth's containers while the daemon is away"),
		systemd.PropPids(withChildren(pid)...),
		// At a shutdown the daemon goes first.
		{Name: "Before", Value: godbus.MakeVariant([]string{"berth.service"})},
		{Name: "CollectMode", Value: godbus.MakeVariant("inactive-or-failed")},
		{Name: "TasksMax", Value: godbus.MakeVariant(uint64(math.MaxUint64))},
	}, nil)
	if err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	for {
		if in, err := unitOf(pid); err != nil || in == name {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("systemd has not moved process %d into %s: %w", pid, name, errdefs.ErrUnavailable)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// withChildren is a process and its children in the same cgroup: a monitor and
// its store, but no container.
func withChildren(pid int) []uint32 {
	pids := []uint32{uint32(pid)}
	here, err := cgroupOf(pid)
	if err != nil {
		return pids
	}
	// Whatever of this cannot be read stays where it is. A child belongs to the
	// thread that forked it.
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, thread := range threads {
		children, _ := os.ReadFile(thread)
		for _, text := range strings.Fields(string(children)) {
			child, err := strconv.Atoi(text)
			if err != nil {
				continue
			}
			if there, err := cgroupOf(child); err == nil && there == here {
				pids = append(pids, uint32(child))
			}
		}
	}
	return pids
}

// unitOf is the systemd unit of a process, a service or a scope.
func unitOf(pid int) (string, error) {
	cgroup, err := cgroupOf(pid)
	return path.Base(cgroup), err
}

// cgroupOf is the path of a process in the hierarchy that systemd uses.
func cgroupOf(pid int) (cgroup string, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && (f[1] == "name=systemd" || f[1] == "" && cgroup == "") {
			cgroup = f[2]
		}
	}
	return cgroup, nil
}
