package e2e

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCleanup removes a node as its package does: pods, monitor, state, rules.
func TestCleanup(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	shares := n.pod(n.podConfig("one"))
	n.run(shares, containerConfig("c", counter))
	n.run(n.pod(n.podConfig("two")), containerConfig("c", "trap '' TERM; while :; do sleep 1; done"))
	if out, err := n.berth("cleanup", "--config", n.path("config.toml"), "--yes"); err == nil || !strings.Contains(out, "in use by another berth daemon") {
		t.Errorf("under a daemon: %v, %s", err, out)
	}
	n.cmd.Process.Signal(unix.SIGTERM)
	n.cmd.Wait()
	out, err := n.berth("cleanup", "--config", n.path("config.toml"))
	if err != nil || strings.Count(out, "e2e/") != 2 || !strings.Contains(out, "--yes") {
		t.Errorf("without --yes: %v, %s", err, out)
	}
	if len(n.processes()) == 0 {
		t.Error("without --yes the pods are gone")
	}
	out, err = n.berth("cleanup", "--config", n.path("config.toml"), "--yes", "--grace", "1s")
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if left := slices.Concat(n.processes(), n.mounts(), cgroupsBelow(n.cgroup), entries(n.path("state"))); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if left := slices.Concat(n.leases(), n.filterElements(), bridgePorts(n.bridge)); len(left) != 0 {
		t.Errorf("left of the network: %v", left)
	}
	if strings.Contains(command("ip", "link"), n.bridge+":") {
		t.Error("the bridge is left")
	}
	if len(entries(n.path("root/images"))) == 0 {
		t.Error("the images are gone")
	}
	if out, err := n.berth("cleanup", "--config", n.path("config.toml"), "--yes"); err != nil {
		t.Errorf("a second time: %v, %s", err, out)
	}
	n.start()
	n.run(n.pod(n.podConfig("again")), containerConfig("c", "sleep 1000; :"))
}
