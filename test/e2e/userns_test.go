package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cri/berth/linux/probe"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	usernsHost   = 1 << 20 // the host's id of root in the tests' user namespaces
	usernsLength = 65536
)

func idMapping() []*runtimeapi.IDMapping {
	return []*runtimeapi.IDMapping{{HostId: usernsHost, ContainerId: 0, Length: usernsLength}}
}

func usernsOptions() *runtimeapi.UserNamespace {
	return &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: idMapping(), Gids: idMapping()}
}

func podInUserns(c *runtimeapi.PodSandboxConfig) {
	c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = usernsOptions()
}

func inUserns(c *runtimeapi.ContainerConfig) {
	c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = usernsOptions()
}

// usernsNode is a node whose pods can have user namespaces.
func usernsNode(t *testing.T, change ...func(*node)) *node {
	n := newNode(t, change...)
	st, err := n.rt.Status(n.ctx(), &runtimeapi.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range st.RuntimeHandlers {
		if h.Name == "" && !h.Features.UserNamespaces {
			t.Skip("no user namespaces with layers on this file system, says the node; berth doctor tells why")
		}
	}
	if !st.Features.UserNamespacesHostNetwork {
		t.Error("user namespaces, but not with the host's network")
	}
	n.pull(busybox)
	return n
}

// volumeDir is a directory of the host with a file of root and one of user 1000.
func (n *node) volumeDir(name string) string {
	n.t.Helper()
	dir := filepath.Join(n.path("volumes"), name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	n.fillVolume(dir)
	return dir
}

func (n *node) fillVolume(dir string) {
	n.t.Helper()
	for name, uid := range map[string]int{"root": 0, "user": 1000} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(name+"'s\n"), 0o600); err != nil {
			n.t.Fatal(err)
		}
		if err := os.Chown(path, uid, uid); err != nil {
			n.t.Fatal(err)
		}
	}
}

func mappedMount(from, to string, change ...func(*runtimeapi.Mount)) func(*runtimeapi.ContainerConfig) {
	m := &runtimeapi.Mount{HostPath: from, ContainerPath: to, UidMappings: idMapping(), GidMappings: idMapping()}
	for _, f := range change {
		f(m)
	}
	return func(c *runtimeapi.ContainerConfig) { c.Mounts = append(c.Mounts, m) }
}

func TestUserNamespaces(t *testing.T) {
	n := usernsNode(t)
	serveVolumes(t)
	modelID := n.pull(model)
	n.pull(users)
	pod := n.pod(n.podConfig("userns", podInUserns))
	disk := n.volumeDir("disk")
	tmpfs := n.privateMount("tmpfs")
	n.fillVolume(tmpfs)
	as := func(uid int64) func(*runtimeapi.ContainerConfig) {
		return func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: uid}
			c.Linux.SecurityContext.SupplementalGroups = []int64{3000}
		}
	}
	const files = "stat -c '%u %g' /v/root /v/user; cat /v/root && touch /v/by-container && stat -c %u /v/by-container; rm /v/by-container"
	const mapped = "0 0\n1000 1000\nroot's\n0\n"
	for name, tc := range map[string]struct {
		script, want string
		change       []func(*runtimeapi.ContainerConfig)
	}{
		"mapping": {"cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '", strings.Repeat(fmt.Sprintf(" 0 %d %d\n", usernsHost, usernsLength), 2), nil},
		"root":    {"id -u; touch /f && stat -c '%u %g' /f /bin/busybox", "0\n0 0\n0 0\n", nil},
		"user": {"id -u; id -G; echo again > /dev/stdout; touch /tmp/f && stat -c %u /tmp/f", "1000\n1000 50 60 3000\nagain\n1000\n", []func(*runtimeapi.ContainerConfig){as(1000), func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.RunAsGroup = &runtimeapi.Int64Value{Value: 1000}
		}}},
		"user-of-image":  {"id -un; pwd; cd; pwd", "app\n/\n/home/app\n", []func(*runtimeapi.ContainerConfig){func(c *runtimeapi.ContainerConfig) { c.Image.Image = users }}},
		"pod-files":      {"hostname; cat /etc/hostname; grep -c userns /etc/hosts; stat -c %u /etc/hosts /etc/resolv.conf; echo '# mine' >> /etc/hosts && echo ok", "userns\nuserns\n2\n0\n0\nok\n", nil},
		"shared-memory":  {"stat -c '%u %a' /dev/shm; echo x > /dev/shm/f && cat /dev/shm/f", "0 1777\nx\n", nil},
		"network":        {"ip -o -4 addr show eth0 | wc -l; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ls /sys/class/net | sort | tr '\\n' ' '", "1\n0\neth0 lo ", nil},
		"devices":        {"echo x > /dev/null && head -c 1 /dev/zero | wc -c; stat -c '%u %a' /dev/null; mknod /x c 1 3 2>/dev/null || echo no", own("1\n0 666\nno\n", "1\n65534 666\nno\n"), nil},
		"disk":           {files, mapped, []func(*runtimeapi.ContainerConfig){mappedMount(disk, "/v")}},
		"tmpfs":          {files, mapped, []func(*runtimeapi.ContainerConfig){mappedMount(tmpfs, "/v")}},
		"one-file":       {"cat /v; stat -c %u /v", "root's\n0\n", []func(*runtimeapi.ContainerConfig){mappedMount(filepath.Join(disk, "root"), "/v")}},
		"read-only":      {"cat /v/root; touch /v/x 2>/dev/null || echo no", "root's\nno\n", []func(*runtimeapi.ContainerConfig){mappedMount(disk, "/v", func(m *runtimeapi.Mount) { m.Readonly, m.RecursiveReadOnly = true, true })}},
		"host-ids":       {"stat -c %u /v/root; cat /v/root 2>/dev/null || echo no", "65534\nno\n", []func(*runtimeapi.ContainerConfig){mappedMount(disk, "/v", func(m *runtimeapi.Mount) { m.UidMappings, m.GidMappings = nil, nil })}},
		"image-volume":   {"cat /m/a.bin; stat -c %u /m/a.bin; cat /n", "new a\n0\nb\n", []func(*runtimeapi.ContainerConfig){imageMount("/m", modelID, "weights"), imageMount("/n", modelID, "weights/b.bin")}},
		"own-image":      {"/again/sh -c 'stat -c %u /again/sh'", "0\n", []func(*runtimeapi.ContainerConfig){imageMount("/again", busybox, "bin")}},
		"read-only-root": {"touch /x 2>/dev/null || echo no; touch /dev/shm/y && echo ok", "no\nok\n", []func(*runtimeapi.ContainerConfig){func(c *runtimeapi.ContainerConfig) { c.Linux.SecurityContext.ReadonlyRootfs = true }}},
		"hardened": {"grep -E 'NoNewPrivs|CapEff|Seccomp:' /proc/self/status | tr '\\t' ' '; wc -c < /proc/keys; echo 1 2>/dev/null > /proc/sys/net/ipv4/ip_forward || echo no", "CapEff: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n0\nno\n", []func(*runtimeapi.ContainerConfig){func(c *runtimeapi.ContainerConfig) {
			sc := c.Linux.SecurityContext
			sc.NoNewPrivs, sc.Capabilities = true, &runtimeapi.Capability{DropCapabilities: []string{"ALL"}}
			sc.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
			sc.MaskedPaths, sc.ReadonlyPaths = []string{"/proc/keys"}, []string{"/proc/sys"}
		}}},
		"powers-inside": {"mount -t tmpfs none /mnt 2>&1 && umount /mnt && ip link set lo down && ip link set lo up && echo ok", "ok\n", []func(*runtimeapi.ContainerConfig){func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"SYS_ADMIN", "NET_ADMIN", "SYS_RESOURCE"}}
			// Whose default profile forbids mounts, there as well.
			c.Linux.SecurityContext.Apparmor = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
			c.Command[2] = "mkdir /mnt; " + c.Command[2]
		}}},
		"ambient": {"grep CapAmb /proc/self/status | tr '\\t' ' '", "CapAmb: 0000000000000400\n", []func(*runtimeapi.ContainerConfig){as(1000), func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.Capabilities = &runtimeapi.Capability{AddAmbientCapabilities: []string{"NET_BIND_SERVICE"}}
		}}},
	} {
		n.sub(name, func(n *node) {
			if name == "tmpfs" && !probe.Kernel().Version.AtLeast(6, 3) {
				n.t.Skip("a tmpfs cannot be shown under other ids before Linux 6.3")
			}
			out, st := n.output(pod, name, tc.script, append([]func(*runtimeapi.ContainerConfig){inUserns}, tc.change...)...)
			if out != tc.want {
				n.t.Errorf("got %q, want %q; exit %d %s %s", out, tc.want, st.ExitCode, st.Reason, st.Message)
			}
		})
	}
	n.sub("on the host's disk", func(n *node) {
		id := n.run(pod, containerConfig("writes", "touch /f; chown 1000:1001 /f; sleep 1000", inUserns))
		upper := n.path("root/containers", id, "upper")
		eventually(n.t, 10e9, "the container has written", func() error {
			var st unix.Stat_t
			err := unix.Stat(filepath.Join(upper, "f"), &st)
			if err == nil && (st.Uid != usernsHost+1000 || st.Gid != usernsHost+1001) {
				err = fmt.Errorf("owner %d:%d", st.Uid, st.Gid)
			}
			return err
		})
		for _, line := range n.mounts() {
			if strings.Contains(line, "idmapped") || strings.Contains(line, " overlay ") {
				n.t.Errorf("mounted on the host: %s", line)
			}
		}
	})
	n.sub("a volume whose file system cannot", func(n *node) {
		id, err := n.create(pod, containerConfig("cannot", "true", inUserns, mappedMount("/sys/kernel", "/v")))
		if err != nil {
			n.t.Fatal(err)
		}
		_, err = n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
		wantCode(n.t, "start", err, codes.Unimplemented, own("mount /v", "mount volume"), "other ids")
		if st := n.status(id); st.Reason != "StartError" || !strings.Contains(st.Message, "other ids") {
			n.t.Errorf("status %s, %q", st.Reason, st.Message)
		}
	})
	st := n.podStatus(pod)
	if u := st.Linux.Namespaces.Options.UsernsOptions; len(u.GetUids()) != 1 || u.Uids[0].HostId != usernsHost {
		t.Errorf("the pod's status has the user namespace %v", u)
	}
}

// Everything that happens to a container in its life.
func TestUserNamespaceThroughRestarts(t *testing.T) {
	n := usernsNode(t)
	pod := n.pod(n.podConfig("lives", podInUserns))
	id := n.run(pod, containerConfig("lives", "trap 'echo bye; exit 3' TERM; echo hello; while :; do sleep 0.1; done", inUserns))
	check := func(when string) {
		t.Helper()
		out, code := n.exec(id, "id -u; tr -s ' ' < /proc/self/uid_map; [ $(readlink /proc/self/ns/user) = $(readlink /proc/1/ns/user) ] && echo same; echo x > /dev/stdout; hostname")
		if want := fmt.Sprintf("0\n 0 %d %d\nsame\nx\nlives\n", usernsHost, usernsLength); out != want || code != 0 {
			t.Errorf("%s: exec says %q, code %d", when, out, code)
		}
	}
	check("at first")
	n.restart()
	check("after a restart of the daemon")
	n.killMonitor()
	check("after the death of the monitor")
	if out, st := n.output(pod, "second", "id -u; exit 4", inUserns); out != "0\n" || st.ExitCode != 4 {
		t.Errorf("a later container: %q, exit code %d", out, st.ExitCode)
	}
	if _, err := n.rt.StopContainer(n.ctx(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 20}); err != nil {
		t.Fatal(err)
	}
	st := n.wait(id)
	if out := n.logged(st.LogPath, "stdout"); out != "hello\nbye\n" {
		t.Errorf("log %q", out)
	}
	if st.ExitCode != 3 && st.Reason != "Unknown" { // unknown before Linux 6.15, when its parent has died
		t.Errorf("exit code %d, %s", st.ExitCode, st.Reason)
	}
}

func TestUserNamespacePodShapes(t *testing.T) {
	n := usernsNode(t)
	pid := func(mode runtimeapi.NamespaceMode, target string) func(*runtimeapi.ContainerConfig) {
		return func(c *runtimeapi.ContainerConfig) {
			inUserns(c)
			c.Linux.SecurityContext.NamespaceOptions.Pid, c.Linux.SecurityContext.NamespaceOptions.TargetId = mode, target
		}
	}
	n.sub("shared processes", func(n *node) {
		pod := n.pod(n.podConfig("shared", podInUserns, func(c *runtimeapi.PodSandboxConfig) {
			c.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
		}))
		n.run(pod, containerConfig("one", "sleep 4711", pid(runtimeapi.NamespaceMode_POD, "")))
		out, _ := n.output(pod, "two", "ps | grep -c '[s]leep 4711'; cat /proc/1/comm; tr -s ' ' < /proc/1/uid_map; kill -0 1 2>/dev/null && echo may", pid(runtimeapi.NamespaceMode_POD, ""))
		if want := fmt.Sprintf("1\nberth-reaper\n 0 %d %d\nmay\n", usernsHost, usernsLength); out != want {
			n.t.Errorf("got %q, want %q", out, want)
		}
	})
	n.sub("sysctls", func(n *node) {
		pod := n.pod(n.podConfig("sysctls", podInUserns, func(c *runtimeapi.PodSandboxConfig) {
			c.Linux.Sysctls = map[string]string{"kernel.shmmni": "1234", "net.ipv4.ip_forward": "1", "fs.mqueue.queues_max": "55"}
		}))
		out, _ := n.output(pod, "sysctls", "cd /proc/sys; cat kernel/shmmni net/ipv4/ip_forward fs/mqueue/queues_max", inUserns)
		if out != "1234\n1\n55\n" {
			n.t.Errorf("got %q", out)
		}
	})
	n.sub("processes of another container", func(n *node) {
		pod := n.pod(n.podConfig("target", podInUserns))
		target := n.run(pod, containerConfig("app", "sleep 4712", inUserns))
		out, _ := n.output(pod, "debug", "ps | grep -c '[s]leep 4712'; ls -d /proc/1/root/bin", pid(runtimeapi.NamespaceMode_TARGET, target),
			func(c *runtimeapi.ContainerConfig) {
				c.Linux.SecurityContext.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"SYS_PTRACE"}}
			})
		if out != "1\n/proc/1/root/bin\n" {
			n.t.Errorf("got %q", out)
		}
	})
	n.sub("the host's network", func(n *node) {
		change := func(o *runtimeapi.NamespaceOption) { o.Network = runtimeapi.NamespaceMode_NODE }
		pod := n.pod(n.podConfig("hostnet", podInUserns, func(c *runtimeapi.PodSandboxConfig) { change(c.Linux.SecurityContext.NamespaceOptions) }))
		host, err := os.Readlink("/proc/self/ns/net")
		if err != nil {
			n.t.Fatal(err)
		}
		out, st := n.output(pod, "hostnet", "readlink /proc/self/ns/net; tr -s ' ' < /proc/self/uid_map; ls -d /sys/class/net/lo; touch /sys/x 2>/dev/null || echo no; ip link set lo down 2>/dev/null || echo no; ls /sys/fs/cgroup > /dev/null && echo cgroups",
			inUserns, func(c *runtimeapi.ContainerConfig) {
				change(c.Linux.SecurityContext.NamespaceOptions)
				c.Linux.SecurityContext.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"NET_ADMIN"}}
			})
		if want := fmt.Sprintf("%s\n 0 %d %d\n/sys/class/net/lo\nno\nno\ncgroups\n", host, usernsHost, usernsLength); out != want {
			n.t.Errorf("got %q, want %q; %s", out, want, st.Message)
		}
	})
	n.sub("privileged", func(n *node) {
		pod := n.pod(n.podConfig("privileged", podInUserns, func(c *runtimeapi.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true }))
		layer := "registry.test/devices:1"
		if err := pushDevices(layer); err != nil {
			n.t.Fatal(err)
		}
		n.pull(layer)
		out, st := n.output(pod, "privileged", "mkdir /m && mount -t tmpfs none /m && echo mounted; [ -e /dev/mem ] || echo hidden; [ -c /image/mem ] && head -c 1 /image/mem 2>/dev/null || echo closed; echo 1 2>/dev/null > /proc/sys/kernel/sysrq || echo no",
			inUserns, func(c *runtimeapi.ContainerConfig) {
				c.Linux.SecurityContext.Privileged = true
				c.Image.Image = layer
			})
		if want := "mounted\nhidden\nclosed\nno\n"; out != want {
			n.t.Errorf("got %q, want %q; %s", out, want, st.Message)
		}
	})
	n.sub("as many as there is room for", func(n *node) {
		// Beside each other, since they share nothing but the monitor.
		ids := make(chan string, 8)
		for i := range cap(ids) {
			go func() {
				name := fmt.Sprint("many", i)
				cfg := n.podConfig(name, podInUserns)
				r, err := n.rt.RunPodSandbox(n.ctx(), &runtimeapi.RunPodSandboxRequest{Config: cfg})
				if err != nil {
					n.t.Error(err)
					ids <- ""
					return
				}
				id, err := n.create(r.PodSandboxId, containerConfig(name, "sleep 1000", inUserns))
				if err == nil {
					_, err = n.rt.StartContainer(n.ctx(), &runtimeapi.StartContainerRequest{ContainerId: id})
				}
				if err != nil {
					n.t.Error(err)
				}
				ids <- id
			}()
		}
		for range cap(ids) {
			if id := <-ids; id != "" {
				if out, _ := n.exec(id, "id -u"); out != "0\n" {
					n.t.Errorf("%s: %q", id, out)
				}
			}
		}
	})
}

func TestUserNamespaceRequestsThatAreWrong(t *testing.T) {
	n := usernsNode(t)
	for name, tc := range map[string]struct {
		change func(*runtimeapi.NamespaceOption)
		word   string
	}{
		"two mappings":            {func(o *runtimeapi.NamespaceOption) { o.UsernsOptions.Uids = append(idMapping(), idMapping()...) }, "uids"},
		"no mapping":              {func(o *runtimeapi.NamespaceOption) { o.UsernsOptions.Gids = nil }, "gids"},
		"root is not mapped":      {func(o *runtimeapi.NamespaceOption) { o.UsernsOptions.Uids[0].ContainerId = 1 }, "container_id"},
		"an empty mapping":        {func(o *runtimeapi.NamespaceOption) { o.UsernsOptions.Gids[0].Length = 0 }, "length"},
		"more than there is":      {func(o *runtimeapi.NamespaceOption) { o.UsernsOptions.Gids[0].HostId = 1<<32 - 2 }, "length"},
		"for each container":      {func(o *runtimeapi.NamespaceOption) { o.UsernsOptions.Mode = runtimeapi.NamespaceMode_CONTAINER }, "mode"},
		"of a target":             {func(o *runtimeapi.NamespaceOption) { o.UsernsOptions.Mode = runtimeapi.NamespaceMode_TARGET }, "mode"},
		"the host's, mapped":      {func(o *runtimeapi.NamespaceOption) { o.UsernsOptions.Mode = runtimeapi.NamespaceMode_NODE }, "uids"},
		"with the host's process": {func(o *runtimeapi.NamespaceOption) { o.Pid = runtimeapi.NamespaceMode_NODE }, "PID"},
		"with the host's IPC":     {func(o *runtimeapi.NamespaceOption) { o.Ipc = runtimeapi.NamespaceMode_NODE }, "IPC"},
	} {
		cfg := n.podConfig("wrong", podInUserns)
		tc.change(cfg.Linux.SecurityContext.NamespaceOptions)
		_, err := n.rt.RunPodSandbox(n.ctx(), &runtimeapi.RunPodSandboxRequest{Config: cfg})
		wantCode(t, name, err, codes.InvalidArgument, "userns_options", tc.word)
	}
	pod := n.pod(n.podConfig("right", podInUserns))
	plain := n.pod(n.podConfig("plain"))
	for name, tc := range map[string]struct {
		pod    string
		change func(*runtimeapi.ContainerConfig)
		word   string
	}{
		"a container without": {pod, func(c *runtimeapi.ContainerConfig) { c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = nil }, "the pod's"},
		"a container with another": {pod, func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.NamespaceOptions.UsernsOptions.Uids[0].HostId++
		}, "the pod's"},
		"a container in a pod without": {plain, func(*runtimeapi.ContainerConfig) {}, "the pod's"},
		"a user that is not mapped": {pod, func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: usernsLength}
		}, "users 0 to"},
		"a group that is not mapped": {pod, func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.SupplementalGroups = []int64{usernsLength}
		}, "groups 0 to"},
		"a volume of another mapping":   {pod, mappedMount("/tmp", "/v", func(m *runtimeapi.Mount) { m.UidMappings[0].Length-- }), "uidMappings"},
		"a volume that the host shares": {pod, mappedMount("/tmp", "/v", func(m *runtimeapi.Mount) { m.Propagation = runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL }), "propagation"},
	} {
		_, err := n.create(tc.pod, containerConfig("wrong", "true", inUserns, tc.change))
		wantCode(t, name, err, codes.InvalidArgument, tc.word)
	}
}
