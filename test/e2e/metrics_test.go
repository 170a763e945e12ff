package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// series is one metric with its labels by name.
type series struct {
	value  uint64
	labels map[string]string
}

// metricsOf are the metrics of a pod, and those of its containers by id.
func (n *node) metricsOf(pod string) (own map[string][]series, containers map[string]map[string][]series) {
	n.t.Helper()
	d, err := n.rt.ListMetricDescriptors(n.ctx(), &runtimeapi.ListMetricDescriptorsRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	keys := map[string][]string{}
	for _, one := range d.Descriptors {
		keys[one.Name] = one.LabelKeys
	}
	named := func(list []*runtimeapi.Metric) map[string][]series {
		all := map[string][]series{}
		for _, m := range list {
			if len(m.LabelValues) != len(keys[m.Name]) {
				n.t.Fatalf("%s has labels %q for %q", m.Name, m.LabelValues, keys[m.Name])
			}
			s := series{value: m.Value.Value, labels: map[string]string{}}
			for i, k := range keys[m.Name] {
				s.labels[k] = m.LabelValues[i]
			}
			all[m.Name] = append(all[m.Name], s)
		}
		return all
	}
	r, err := n.rt.ListPodSandboxMetrics(n.ctx(), &runtimeapi.ListPodSandboxMetricsRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, p := range r.PodMetrics {
		if p.PodSandboxId != pod {
			continue
		}
		containers = map[string]map[string][]series{}
		for _, c := range p.ContainerMetrics {
			containers[c.ContainerId] = named(c.Metrics)
		}
		return named(p.Metrics), containers
	}
	n.t.Fatalf("no metrics of pod %s in %d", pod, len(r.PodMetrics))
	return nil, nil
}

func TestMetrics(t *testing.T) {
	n := newNode(t, withKubelet)
	n.pull(busybox)
	pod := n.pod(n.podConfig("watched", func(c *runtimeapi.PodSandboxConfig) { c.Linux.CgroupParent = ofKubelet(n) }))
	id := n.run(pod, containerConfig("app", busy, limits(&runtimeapi.LinuxContainerResources{
		CpuPeriod: 100000, CpuQuota: 20000, CpuShares: 512, MemoryLimitInBytes: 64 << 20,
	})))
	out := n.must(id, "ulimit -n")
	own, containers := n.metricsOf(pod)
	if len(containers) != 1 {
		t.Fatalf("%d containers", len(containers))
	}
	app := containers[id]
	mayLack := func(name string) bool {
		return strings.Contains(name, "hugetlb") && !exists("/sys/fs/cgroup/hugetlb") ||
			strings.Contains(name, "pressure") && !exists("/proc/pressure/cpu") ||
			strings.HasPrefix(name, "container_fs_reads") || strings.HasPrefix(name, "container_fs_writes") || strings.HasPrefix(name, "container_blkio") // nothing was read from a disk yet
	}
	d, err := n.rt.ListMetricDescriptors(n.ctx(), &runtimeapi.ListMetricDescriptorsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range d.Descriptors {
		if len(app[one.Name])+len(own[one.Name]) == 0 && !mayLack(one.Name) {
			t.Errorf("no value of %s", one.Name)
		}
	}
	for name, all := range app {
		for _, s := range all {
			if l := s.labels; l["container"] != "app" || l["pod"] != "watched" || l["namespace"] != "e2e" || l["name"] != id || l["image"] != busybox || l["id"] != inCgroup(ofKubelet(n), id) {
				t.Errorf("%s: %v", name, l)
			}
		}
	}
	for name, want := range map[string]string{
		"container_spec_cpu_quota": "20000", "container_spec_cpu_shares": "512", "container_spec_memory_limit_bytes": "67108864",
		"container_processes": "1", "container_threads": "1", "container_sockets": "0", "container_file_descriptors": "3",
		"container_ulimits_soft": strings.TrimSpace(out),
	} {
		if len(app[name]) != 1 || fmt.Sprint(app[name][0].value) != want {
			t.Errorf("%s: %v, want %s", name, app[name], want)
		}
	}
	if rx := own["container_network_receive_bytes_total"]; len(rx) != 1 || rx[0].labels["interface"] != "eth0" || rx[0].labels["name"] != pod || rx[0].labels["container"] != "" {
		t.Errorf("network: %v", rx)
	}
	if m := own["container_memory_usage_bytes"]; len(m) != 1 || m[0].value == 0 || m[0].labels["id"] != ofKubelet(n) || m[0].labels["image"] != "" {
		t.Errorf("the pod's memory: %v", m)
	}
	if start := app["container_start_time_seconds"]; start[0].value != uint64(n.status(id).StartedAt/1e9) {
		t.Errorf("start: %v", start)
	}
	if device := app["container_fs_limit_bytes"][0].labels["device"]; !strings.HasPrefix(device, "/dev/") && device != "tmpfs" {
		if b, _ := os.ReadFile("/proc/mounts"); !strings.Contains(string(b), device+" ") {
			t.Errorf("device %q", device)
		}
	}
}
