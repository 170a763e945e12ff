package kubelet

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// What autoscalers, `kubectl top` and the metrics pipeline read.
func statistics(n *node, t *testing.T) {
	busy := shell("busy", "dd if=/dev/zero of=/written bs=1M count=3; while :; do :; done")
	busy.Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: quantity("50m"), corev1.ResourceMemory: quantity("64Mi")}
	n.ready(t, pod("stats", busy))
	eventually(t, 90*time.Second, "/stats/summary", func() error { return n.summary("stats", "busy") })
	eventually(t, 60*time.Second, "/metrics/resource", func() error {
		return n.samples("/metrics/resource", map[string]string{
			`container_cpu_usage_seconds_total{container="busy",namespace="default",pod="stats-berth-node"}`:  "positive",
			`container_memory_working_set_bytes{container="busy",namespace="default",pod="stats-berth-node"}`: "positive",
			`container_start_time_seconds{container="busy",namespace="default",pod="stats-berth-node"}`:       "positive",
			`pod_cpu_usage_seconds_total{namespace="default",pod="stats-berth-node"}`:                         "positive",
			`pod_memory_working_set_bytes{namespace="default",pod="stats-berth-node"}`:                        "positive",
		})
	})
	if !n.gates["PodAndContainerStatsFromCRI"] {
		return // by default cAdvisor inside the kubelet knows containerd's and CRI-O's pods only
	}
	eventually(t, 60*time.Second, "/metrics/cadvisor", func() error {
		body, err := n.api.get("/metrics/cadvisor")
		if err != nil {
			return err
		}
		for _, name := range []string{
			"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_memory_usage_bytes",
			"container_network_receive_bytes_total", "container_start_time_seconds", "container_spec_memory_limit_bytes",
		} {
			of := `container="busy",[^}]*pod="stats-berth-node"`
			if strings.Contains(name, "network") {
				of = `interface="eth0",[^}]*pod="stats-berth-node"`
			}
			if !regexp.MustCompile(`(?m)^` + name + `\{[^}]*` + of + `[^}]*\} [1-9]`).Match(body) {
				return fmt.Errorf("no %s of the pod; there are:\n%s", name, grep(string(body), name))
			}
		}
		return nil
	})
}

func grep(text, what string) string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, what) {
			found = append(found, line)
		}
	}
	return strings.Join(found[:min(8, len(found))], "")
}

func (n *node) summary(pod, container string) error {
	var s stats.Summary
	if err := n.api.json("/stats/summary", &s); err != nil {
		return err
	}
	positive := func(v *uint64) bool { return v != nil && *v > 0 }
	for _, p := range s.Pods {
		if p.PodRef.Name != pod+suffix {
			continue
		}
		if p.CPU == nil || !positive(p.CPU.UsageCoreNanoSeconds) || p.Memory == nil || !positive(p.Memory.WorkingSetBytes) {
			return fmt.Errorf("of the pod: CPU %+v, memory %+v", p.CPU, p.Memory)
		}
		// By default cAdvisor tells both, which knows containerd's and CRI-O's pods only.
		told := p.Network != nil && p.Network.Name == "eth0" && p.Network.RxBytes != nil && p.ProcessStats != nil && positive(p.ProcessStats.ProcessCount)
		if told != n.gates["PodAndContainerStatsFromCRI"] {
			return fmt.Errorf("network %+v, processes %+v", p.Network, p.ProcessStats)
		}
		if p.EphemeralStorage == nil || !positive(p.EphemeralStorage.UsedBytes) || *p.EphemeralStorage.UsedBytes < 3<<20 {
			return fmt.Errorf("storage %+v", p.EphemeralStorage)
		}
		for _, c := range p.Containers {
			if c.Name != container {
				continue
			}
			if c.CPU == nil || !positive(c.CPU.UsageNanoCores) || !positive(c.CPU.UsageCoreNanoSeconds) {
				return fmt.Errorf("CPU %+v", c.CPU)
			}
			if c.Memory == nil || !positive(c.Memory.WorkingSetBytes) || !positive(c.Memory.UsageBytes) || !positive(c.Memory.AvailableBytes) {
				return fmt.Errorf("memory %+v", c.Memory)
			}
			if c.Rootfs == nil || !positive(c.Rootfs.UsedBytes) || *c.Rootfs.UsedBytes < 3<<20 || !positive(c.Rootfs.AvailableBytes) {
				return fmt.Errorf("root file system %+v", c.Rootfs)
			}
			if c.Logs == nil || c.Logs.UsedBytes == nil {
				return fmt.Errorf("logs %+v", c.Logs)
			}
			if s.Node.Runtime == nil || s.Node.Runtime.ImageFs == nil || !positive(s.Node.Runtime.ImageFs.UsedBytes) || !positive(s.Node.Runtime.ImageFs.CapacityBytes) {
				return fmt.Errorf("images %+v", s.Node.Runtime)
			}
			return nil
		}
		return fmt.Errorf("no container in %+v", p)
	}
	return fmt.Errorf("%d pods, and not this one", len(s.Pods))
}

// samples looks for lines of a page of metrics with a value above 0.
func (n *node) samples(path string, want map[string]string) error {
	body, err := n.api.get(path)
	if err != nil {
		return err
	}
	for sample := range want {
		if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(sample) + ` [1-9]|^` + regexp.QuoteMeta(sample) + ` 0\.\d*[1-9]`).Match(body) {
			name, _, _ := strings.Cut(sample, "{")
			return fmt.Errorf("no %s; there are:\n%s", sample, grep(string(body), name))
		}
	}
	return nil
}
