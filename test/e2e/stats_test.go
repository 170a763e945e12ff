package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// busy uses the processor until it is ended.
const busy = "while :; do :; done"

func limits(r *runtimeapi.LinuxContainerResources) func(*runtimeapi.ContainerConfig) {
	return func(c *runtimeapi.ContainerConfig) { c.Linux.Resources = r }
}

func (n *node) stats(f *runtimeapi.ContainerStatsFilter) []*runtimeapi.ContainerStats {
	n.t.Helper()
	r, err := n.rt.ListContainerStats(n.ctx(), &runtimeapi.ListContainerStatsRequest{Filter: f})
	if err != nil {
		n.t.Fatal(err)
	}
	return r.Stats
}

// ids of containers, sorted.
func statsIDs(all []*runtimeapi.ContainerStats) []string {
	ids := []string{}
	for _, s := range all {
		ids = append(ids, s.Attributes.Id)
	}
	slices.Sort(ids)
	return ids
}

// kept are the descriptors of cgroup files that the daemon has of this node.
func (n *node) kept() []string {
	return slices.DeleteFunc(descriptors(n.cmd.Process.Pid, "/sys/fs/cgroup"), func(s string) bool {
		return !strings.Contains(s, n.cgroup)
	})
}

// noneKept waits: descriptors are closed after a stop is answered.
func (n *node) noneKept(what string) {
	n.t.Helper()
	eventually(n.t, 10*time.Second, "no descriptor is kept "+what, func() error {
		if left := n.kept(); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

func TestContainerStats(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("stats"))
	const limit = 64 << 20
	id := n.run(pod, containerConfig("busy", busy, limits(&runtimeapi.LinuxContainerResources{MemoryLimitInBytes: limit}),
		func(c *runtimeapi.ContainerConfig) { c.Annotations = map[string]string{"a": "b"} }))
	n.must(id, "head -c 1000000 /dev/zero > /tmp/file")

	first, err := n.rt.ContainerStats(n.ctx(), &runtimeapi.ContainerStatsRequest{ContainerId: id})
	if err != nil {
		t.Fatal(err)
	}
	if first.Stats.Cpu.UsageNanoCores != nil {
		t.Errorf("a rate from one reading: %v", first.Stats.Cpu)
	}
	var s *runtimeapi.ContainerStats
	eventually(t, 30*time.Second, "a rate", func() error {
		r, err := n.rt.ContainerStats(n.ctx(), &runtimeapi.ContainerStatsRequest{ContainerId: id})
		if err != nil {
			return err
		}
		if s = r.Stats; s.Cpu.UsageNanoCores == nil {
			return fmt.Errorf("%v", s.Cpu)
		}
		return nil
	})
	if s.Cpu.UsageCoreNanoSeconds.Value <= first.Stats.Cpu.UsageCoreNanoSeconds.Value || s.Cpu.Timestamp <= first.Stats.Cpu.Timestamp || s.Cpu.UsageNanoCores.Value == 0 {
		t.Errorf("CPU: %v, before: %v", s.Cpu, first.Stats.Cpu)
	}
	m := s.Memory
	if m.WorkingSetBytes.Value == 0 || m.UsageBytes.Value < m.WorkingSetBytes.Value || m.RssBytes.Value == 0 || m.PageFaults.Value == 0 ||
		m.AvailableBytes.Value != limit-m.WorkingSetBytes.Value || m.Timestamp != s.Cpu.Timestamp {
		t.Errorf("memory: %v", m)
	}
	if s.Swap != nil && s.Swap.SwapAvailableBytes.Value != 0 { // without a word about swap there is none
		t.Errorf("swap: %v", s.Swap)
	}
	if a := s.Attributes; a.Id != id || a.Metadata.Name != "busy" || a.Labels["container"] != "busy" || a.Annotations["a"] != "b" {
		t.Errorf("attributes: %v", a)
	}
	if exists("/proc/pressure/cpu") && exists("/sys/fs/cgroup/unified/cpu.pressure") && (s.Cpu.Psi == nil || s.Memory.Psi.Full == nil || s.Io.Psi.Some == nil) {
		t.Errorf("no pressure: %v", s)
	}
	fs, err := n.images.ImageFsInfo(n.ctx(), &runtimeapi.ImageFsInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if w := s.WritableLayer; w.FsId.Mountpoint != fs.ContainerFilesystems[0].FsId.Mountpoint || w.InodesUsed.Value == 0 || w.Timestamp == 0 {
		t.Errorf("writable layer: %v, file systems: %v", w, fs)
	}
	if len(n.kept()) == 0 {
		t.Error("no descriptor is kept")
	}

	n.stop(id, 0)
	r, err := n.rt.ContainerStats(n.ctx(), &runtimeapi.ContainerStatsRequest{ContainerId: id})
	if err != nil || r.Stats.Cpu != nil || r.Stats.Memory != nil || r.Stats.WritableLayer.GetUsedBytes().GetValue() < 1000000 {
		t.Errorf("of an exited container: %v, %v", r, err)
	}
	n.noneKept("of an exited container")
	_, err = n.rt.ContainerStats(n.ctx(), &runtimeapi.ContainerStatsRequest{ContainerId: "none"})
	wantCode(t, "of no container", err, codes.NotFound)
}

func TestContainerStatsFilter(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	one, two := n.pod(n.podConfig("one")), n.pod(n.podConfig("two"))
	label := func(c *runtimeapi.ContainerConfig) { c.Labels["tier"] = "front" }
	a := n.run(one, containerConfig("a", "sleep 1000", label))
	b := n.run(one, containerConfig("b", "sleep 1000"))
	c := n.run(two, containerConfig("c", "sleep 1000", label))
	created, err := n.create(one, containerConfig("created", "sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	exited := n.run(one, containerConfig("exited", "true"))
	n.wait(exited)
	for name, tc := range map[string]struct {
		filter *runtimeapi.ContainerStatsFilter
		want   []string
	}{
		"nothing":                 {nil, []string{a, b, c}},
		"id":                      {&runtimeapi.ContainerStatsFilter{Id: b}, []string{b}},
		"start of the id":         {&runtimeapi.ContainerStatsFilter{Id: b[:20]}, []string{b}},
		"pod":                     {&runtimeapi.ContainerStatsFilter{PodSandboxId: one}, []string{a, b}},
		"start of the pod's id":   {&runtimeapi.ContainerStatsFilter{PodSandboxId: two[:20]}, []string{c}},
		"label":                   {&runtimeapi.ContainerStatsFilter{LabelSelector: map[string]string{"tier": "front"}}, []string{a, c}},
		"pod and label":           {&runtimeapi.ContainerStatsFilter{PodSandboxId: two, LabelSelector: map[string]string{"tier": "front"}}, []string{c}},
		"id and another pod":      {&runtimeapi.ContainerStatsFilter{Id: a, PodSandboxId: two}, nil},
		"label with another text": {&runtimeapi.ContainerStatsFilter{LabelSelector: map[string]string{"tier": "back"}}, nil},
		"unknown id":              {&runtimeapi.ContainerStatsFilter{Id: "none"}, nil},
		"unknown pod":             {&runtimeapi.ContainerStatsFilter{PodSandboxId: "none"}, nil},
		"created":                 {&runtimeapi.ContainerStatsFilter{Id: created}, nil},
		"exited":                  {&runtimeapi.ContainerStatsFilter{Id: exited}, nil},
	} {
		slices.Sort(tc.want)
		if got := statsIDs(n.stats(tc.filter)); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func (n *node) podStats(id string) *runtimeapi.PodSandboxStats {
	n.t.Helper()
	r, err := n.rt.PodSandboxStats(n.ctx(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: id})
	if err != nil {
		n.t.Fatal(err)
	}
	return r.Stats
}

// ofKubelet is a cgroup as the kubelet makes it for a pod. Berth leaves it alone.
func ofKubelet(n *node) string {
	if driver == "systemd" {
		return n.cgroup + strings.TrimSuffix(n.cgroup, ".slice") + "-pod.slice"
	}
	return n.cgroup + "-pod"
}

func withKubelet(n *node) {
	n.t.Cleanup(func() { // after the node's own end
		if left := cgroupsBelow(ofKubelet(n)); len(left) > 0 {
			n.t.Errorf("left behind in the pod's cgroup: %v", left)
		}
		removeCgroups(ofKubelet(n))
	})
}

func TestPodStats(t *testing.T) {
	n := newNode(t, withKubelet)
	n.pull(busybox)
	// A pod with a cgroup of its own, as the kubelet makes it, and two that share one.
	own := n.pod(n.podConfig("own", func(c *runtimeapi.PodSandboxConfig) { c.Linux.CgroupParent = ofKubelet(n) }))
	shares := n.pod(n.podConfig("shares"))
	host := n.pod(n.podConfig("host", func(c *runtimeapi.PodSandboxConfig) {
		c.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
	}))
	id := n.run(own, containerConfig("a", busy))
	n.run(own, containerConfig("b", "sleep 1000"))
	n.run(shares, containerConfig("c", "sleep 1000"))

	before := n.podStats(own).Linux
	gateway := strings.TrimSpace(n.must(id, "ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p'"))
	n.must(id, "ping -c 3 -i 0.2 -s 1000 "+gateway)
	s := n.podStats(own)
	if a := s.Attributes; a.Id != own || a.Metadata.Name != "own" || a.Labels["pod"] != "own" || a.Annotations["note"] != "kept ünchanged" {
		t.Errorf("attributes: %v", a)
	}
	l := s.Linux
	eth := l.Network.DefaultInterface
	if eth.Name != "eth0" || eth.RxBytes.Value < before.Network.DefaultInterface.RxBytes.Value+3000 || eth.TxBytes.Value < before.Network.DefaultInterface.TxBytes.Value+3000 || len(l.Network.Interfaces) != 0 {
		t.Errorf("network: %v, before: %v", l.Network, before.Network)
	}
	if seen := n.must(id, "cat /sys/class/net/eth0/statistics/rx_packets"); seen == "0\n" {
		t.Errorf("the pod has received %q packets", seen)
	}
	if len(l.Containers) != 2 || l.Process.ProcessCount.Value < 2 {
		t.Errorf("%d containers, processes: %v", len(l.Containers), l.Process)
	}
	var cpu, memory uint64
	for _, c := range l.Containers {
		cpu += c.Cpu.UsageCoreNanoSeconds.Value
		memory += c.Memory.UsageBytes.Value
	}
	if l.Cpu.UsageCoreNanoSeconds.Value == 0 || l.Memory.WorkingSetBytes.Value == 0 || l.Cpu.UsageCoreNanoSeconds.Value < cpu/2 || l.Memory.UsageBytes.Value < memory/2 {
		t.Errorf("the pod uses less than its containers: %v", l)
	}
	// The cgroup that others are in too is not the pod's.
	l = n.podStats(shares).Linux
	if len(l.Containers) != 1 || l.Memory.UsageBytes.Value != l.Containers[0].Memory.UsageBytes.Value || l.Cpu.UsageCoreNanoSeconds.Value != l.Containers[0].Cpu.UsageCoreNanoSeconds.Value {
		t.Errorf("a pod that shares its cgroup: %v", l)
	}
	if l := n.podStats(host).Linux; l.Network != nil || len(l.Containers) != 0 {
		t.Errorf("a pod on the node's network: %v", l)
	}

	list := func(f *runtimeapi.PodSandboxStatsFilter) (ids []string) {
		t.Helper()
		r, err := n.rt.ListPodSandboxStats(n.ctx(), &runtimeapi.ListPodSandboxStatsRequest{Filter: f})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range r.Stats {
			ids = append(ids, s.Attributes.Id)
		}
		return ids
	}
	n.stopPod(shares)
	for name, tc := range map[string]struct {
		filter *runtimeapi.PodSandboxStatsFilter
		want   []string
	}{
		"nothing":        {nil, []string{own, host}}, // in the order of their creation
		"id":             {&runtimeapi.PodSandboxStatsFilter{Id: own[:20]}, []string{own}},
		"label":          {&runtimeapi.PodSandboxStatsFilter{LabelSelector: map[string]string{"pod": "host"}}, []string{host}},
		"id and label":   {&runtimeapi.PodSandboxStatsFilter{Id: own, LabelSelector: map[string]string{"pod": "host"}}, nil},
		"unknown":        {&runtimeapi.PodSandboxStatsFilter{Id: "none"}, nil},
		"a pod that was": {&runtimeapi.PodSandboxStatsFilter{Id: shares}, nil},
	} {
		if got := list(tc.filter); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	if s := n.podStats(shares); s.Attributes.Id != shares || s.Linux.Cpu != nil || s.Linux.Network != nil {
		t.Errorf("a stopped pod: %v", s)
	}
	_, err := n.rt.PodSandboxStats(n.ctx(), &runtimeapi.PodSandboxStatsRequest{PodSandboxId: "none"})
	wantCode(t, "of no pod", err, codes.NotFound)
	n.stopPod(own)
	n.noneKept("of stopped pods")
}

// must runs a script in a container, which has to succeed.
func (n *node) must(id, script string) string {
	n.t.Helper()
	out, code := n.exec(id, script)
	if code != 0 {
		n.t.Fatalf("%q: code %d, %s", script, code, out)
	}
	return out
}

// A list has what can be read while containers come and go.
func TestStatsWhileContainersEnd(t *testing.T) {
	n := newNode(t, withKubelet)
	n.pull(busybox)
	pod := n.pod(n.podConfig("churn", func(c *runtimeapi.PodSandboxConfig) { c.Linux.CgroupParent = ofKubelet(n) }))
	stays := n.run(pod, containerConfig("stays", "sleep 1000"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 20 {
			id := n.run(pod, containerConfig(fmt.Sprintf("goes-%d", i), "true"))
			n.wait(id)
			if _, err := n.rt.RemoveContainer(n.ctx(), &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
				t.Error(err)
			}
		}
	}()
	for lists := 0; ; lists++ {
		if !slices.Contains(statsIDs(n.stats(nil)), stays) {
			t.Fatalf("list %d has not the container that runs", lists)
		}
		if s := n.podStats(pod); s.Linux.Cpu == nil || !slices.Contains(statsIDs(s.Linux.Containers), stays) {
			t.Fatalf("list %d: %v", lists, s)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}
