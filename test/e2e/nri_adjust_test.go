package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/nri/pkg/api"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// adjustments is a plugin that changes containers by their name.
func (n *node) adjustments(by map[string]func(*api.ContainerAdjustment, *api.Container)) *nriPlugin {
	return n.plugin("10-adjust", func(p *nriPlugin) {
		p.create = func(_ *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
			change := by[c.Name]
			if change == nil {
				return nil, nil, nil
			}
			a := &api.ContainerAdjustment{}
			change(a, c)
			return a, nil, nil
		}
	})
}

func TestNRIAdjustments(t *testing.T) {
	n := newNode(t, cdiNode, patient)
	n.pull(busybox)
	dir := n.privateMount("given")
	n.write("given/file", "from the host\n")
	n.write("cdi/disk.yaml", "cdiVersion: 0.6.0\nkind: example.com/disk\ndevices:\n- name: one\n  containerEdits:\n    env: [DISK=one]\n")
	type change = func(*api.ContainerAdjustment, *api.Container)
	cases := map[string]struct {
		adjust change
		script string
		want   string
	}{
		"nothing": {nil, "echo $A", "from-the-request\n"},
		"env": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.AddEnv("A", "changed")
			a.AddEnv("NEW", "here")
			a.RemoveEnv("B")
		}, "echo $A $NEW ${B-unset}", "changed here unset\n"},
		"args": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.SetArgs([]string{"echo", "other", "words"})
		}, "echo ours", "other words\n"},
		"mount": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.AddMount(&api.Mount{Destination: "/given", Type: "bind", Source: dir, Options: []string{"bind", "ro"}})
		}, "cat /given/file; touch /given/x 2>/dev/null || echo no", "from the host\nno\n"},
		"mount-instead": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.RemoveMount("/theirs")
			a.AddMount(&api.Mount{Destination: "/theirs", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=64k"}})
		}, "ls /theirs; grep -c ' /theirs tmpfs ' /proc/mounts", "1\n"},
		"mount-removed": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.RemoveMount("/theirs")
		}, "ls /theirs 2>/dev/null || echo none", "none\n"},
		"rlimits": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.AddRlimit("RLIMIT_NOFILE", 999, 777)
		}, "ulimit -Sn; ulimit -Hn", "777\n999\n"},
		"device": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.AddDevice(&api.LinuxDevice{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, FileMode: api.FileMode(0o666), Uid: api.UInt32(uint32(7))})
		}, "stat -c '%a %u' /dev/fuse; (exec 3<>/dev/fuse) && echo opened", "666 7\nopened\n"},
		"device-removed": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.RemoveDevice("/dev/theirs")
		}, "ls /dev/theirs 2>/dev/null || echo none", "none\n"},
		"CDI-device": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.AddCDIDevice(&api.CDIDevice{Name: "example.com/disk=one"})
		}, "echo $DISK", "one\n"},
		"oom-score": {func(a *api.ContainerAdjustment, _ *api.Container) {
			score := 654
			a.SetLinuxOomScoreAdj(&score)
		}, "cat /proc/self/oom_score_adj", "654\n"},
		"seccomp": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.SetLinuxSeccompPolicy(&api.LinuxSeccomp{
				DefaultAction: "SCMP_ACT_ALLOW",
				Syscalls:      []*api.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: "SCMP_ACT_ERRNO", ErrnoRet: api.UInt32(uint32(28))}},
			})
		}, "mkdir /d 2>&1; grep Seccomp: /proc/self/status", "mkdir: can't create directory '/d': No space left on device\nSeccomp:\t2\n"},
		"sysctl": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.SetLinuxSysctl("net.ipv4.ip_default_ttl", "33")
		}, "cat /proc/sys/net/ipv4/ip_default_ttl", "33\n"},
		"network-namespace": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.AddOrReplaceNamespace(&api.LinuxNamespace{Type: "network"})
		}, "ls /sys/class/net", "lo\n"},
		"IO-priority": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.SetLinuxIOPriority(&api.LinuxIOPriority{Class: api.IOPrioClass_IOPRIO_CLASS_BE, Priority: 6})
		}, "ionice -p $$", "best-effort: prio 6\n"},
		"scheduler": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.SetLinuxScheduler(&api.LinuxScheduler{Policy: api.LinuxSchedulerPolicy_SCHED_BATCH, Nice: 5})
		}, "cut -d' ' -f19,41 /proc/self/stat", "5 3\n"},
	}
	if standardRuntime != "berth" { // not known to runc before 1.2
		delete(cases, "IO-priority")
		delete(cases, "scheduler")
	}
	by := map[string]change{}
	for name, tc := range cases {
		by[name] = tc.adjust
	}
	p := n.adjustments(by)
	pod := n.pod(n.podConfig("adjusted"))
	for name, tc := range cases {
		n.sub(name, func(n *node) {
			out, st := n.output(pod, name, tc.script, func(c *runtimeapi.ContainerConfig) {
				c.Envs = []*runtimeapi.KeyValue{{Key: "A", Value: []byte("from-the-request")}, {Key: "B", Value: []byte("b")}}
				c.Devices = []*runtimeapi.Device{{HostPath: "/dev/fuse", ContainerPath: "/dev/theirs", Permissions: "rw"}}
				c.Mounts = []*runtimeapi.Mount{{ContainerPath: "/theirs", HostPath: dir}}
			})
			if out != tc.want {
				n.t.Errorf("got %q (exit %d, %s), want %q", out, st.ExitCode, st.Message, tc.want)
			}
		})
	}
	if c := p.container("env"); !strings.Contains(fmt.Sprint(c.Env), "A=changed") {
		t.Errorf("afterwards it is told with %q", c.Env)
	}
}

// What a plugin makes of limits is in the kernel, in the status, and stays
// through updates that do not speak of it.
func TestNRIAdjustmentOfLimits(t *testing.T) {
	n := newNode(t, patient)
	n.pull(busybox)
	var cgroup string
	n.adjustments(map[string]func(*api.ContainerAdjustment, *api.Container){
		"limited": func(a *api.ContainerAdjustment, c *api.Container) {
			a.SetLinuxMemoryLimit(96 << 20)
			a.SetLinuxMemoryReservation(32 << 20)
			a.SetLinuxCPUShares(400)
			a.SetLinuxCPUQuota(50000)
			a.SetLinuxCPUPeriod(100000)
			a.SetLinuxPidLimits(77)
			a.AddAnnotation("note", "of the plugin")
			cgroup = c.Linux.CgroupsPath
			if driver == "cgroupfs" { // a scope of systemd is the pod's
				cgroup = filepath.Join(filepath.Dir(cgroup), "deeper", c.Id)
				a.SetLinuxCgroupsPath(cgroup)
			}
		},
	})
	pod := n.pod(n.podConfig("limits"))
	id, err := n.create(pod, containerConfig("limited", "sleep 1000", limits(&resources{CpuShares: 2, MemoryLimitInBytes: 64 << 20, CpusetCpus: "0"})))
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, shares int64) {
		t.Helper()
		r := n.status(id).Resources.Linux
		if r.MemoryLimitInBytes != 96<<20 || r.CpuShares != shares || r.CpuQuota != 50000 || r.CpuPeriod != 100000 || r.CpusetCpus != "0" {
			t.Errorf("%s: status tells %v", what, r)
		}
	}
	check("created", 400)
	n.restart()
	check("created, after a restart", 400)
	if _, err := n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	in := "deeper/"
	if driver != "cgroupfs" {
		in = ""
	}
	kernel := func(what string) {
		t.Helper()
		for names, want := range map[[2]string]string{
			{"memory.limit_in_bytes", "memory.max"}:      fmt.Sprint(96 << 20),
			{"memory.soft_limit_in_bytes", "memory.low"}: fmt.Sprint(32 << 20),
			{"pids.max", "pids.max"}:                     "77",
		} {
			if got := n.limit(in+id, names[:]...); got != want {
				t.Errorf("%s: %v is %s, want %s", what, names, got, want)
			}
		}
	}
	kernel("started")
	if err := n.update(id, &resources{CpuShares: 300}); err != nil {
		t.Fatal(err)
	}
	check("updated", 300)
	kernel("updated")
	r, err := n.rt.ContainerStatus(n.ctx(), &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil || !strings.Contains(r.Info["info"], `"note":"of the plugin"`) || !strings.Contains(r.Info["info"], cgroup) {
		t.Errorf("the spec: %v, %v", r.GetInfo(), err)
	}
	n.removePod(pod)
	for _, dir := range cgroupsBelow(n.cgroup) { // the parent that the plugin wished stays, as the kubelet's do
		os.Remove(dir)
	}
}

// What cannot be done is an error that says so, and leaves nothing.
func TestNRIAdjustmentsThatAreRefused(t *testing.T) {
	if standardRuntime != "berth" {
		t.Skip("what the embedded runtime refuses, others may have")
	}
	n := newNode(t, patient)
	n.pull(busybox)
	cases := map[string]struct {
		adjust func(*api.ContainerAdjustment, *api.Container)
		code   codes.Code
		word   string
	}{
		"block-IO-class": {func(a *api.ContainerAdjustment, _ *api.Container) { a.SetLinuxBlockIOClass("slow") }, codes.Unimplemented, "slow"},
		"RDT-class":      {func(a *api.ContainerAdjustment, _ *api.Container) { a.SetLinuxRDTClass("gold") }, codes.Unimplemented, "intelRdt"},
		"RDT":            {func(a *api.ContainerAdjustment, _ *api.Container) { a.SetLinuxRDTClosID("gold") }, codes.Unimplemented, "intelRdt"},
		"memory-policy": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.SetLinuxMemoryPolicy(api.MpolMode_MPOL_INTERLEAVE, "0")
		}, codes.Unimplemented, "memoryPolicy"},
		"net-device": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.AddLinuxNetDevice("eth9", &api.LinuxNetDevice{Name: "in"})
		}, codes.Unimplemented, "netDevices"},
		"time-namespace": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.AddOrReplaceNamespace(&api.LinuxNamespace{Type: "time"})
		}, codes.InvalidArgument, "time"},
		"seccomp-listener": {func(a *api.ContainerAdjustment, _ *api.Container) {
			a.SetLinuxSeccompPolicy(&api.LinuxSeccomp{DefaultAction: "SCMP_ACT_ALLOW", ListenerPath: "/run/x"})
		}, codes.Unimplemented, "listener"},
		"another-container's-cgroup": {func(a *api.ContainerAdjustment, _ *api.Container) { a.SetLinuxCgroupsPath("/somewhere") }, codes.InvalidArgument, "/somewhere"},
		"CDI-device":                 {func(a *api.ContainerAdjustment, _ *api.Container) { a.AddCDIDevice(&api.CDIDevice{Name: "a.b/c=d"}) }, codes.FailedPrecondition, "a.b/c=d"},
		"negative-shares":            {func(a *api.ContainerAdjustment, _ *api.Container) { a.SetLinuxCPUQuota(-7) }, codes.InvalidArgument, "quota"},
		"no-cpuset":                  {func(a *api.ContainerAdjustment, _ *api.Container) { a.SetLinuxCPUSetCPUs("all") }, codes.InvalidArgument, "cpuset"},
	}
	by := map[string]func(*api.ContainerAdjustment, *api.Container){}
	for name, tc := range cases {
		by[name] = tc.adjust
	}
	p := n.adjustments(by)
	pod := n.pod(n.podConfig("refused"))
	for name, tc := range cases {
		_, err := n.create(pod, containerConfig(name, "true"))
		wantCode(t, name, err, tc.code, tc.word)
		p.told("RemoveContainer " + name)
	}
	if left := n.containerNames(nil); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
