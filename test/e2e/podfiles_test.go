package e2e

import (
	"os"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestPodFiles(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	file := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, tc := range map[string]struct {
		pod       func(*runtimeapi.PodSandboxConfig)
		container func(*runtimeapi.ContainerConfig)
		script    string
		want      string
	}{
		"hostname":                          {nil, nil, "hostname; cat /etc/hostname; echo $HOSTNAME", "p\np\np\n"},
		"no hostname":                       {func(c *runtimeapi.PodSandboxConfig) { c.Hostname = "" }, nil, "hostname; cat /etc/hostname", hostname + "\n" + hostname + "\n"},
		"hostname with dots":                {func(c *runtimeapi.PodSandboxConfig) { c.Hostname = "a.b.example" }, nil, "hostname", "a.b.example\n"},
		"longest hostname":                  {func(c *runtimeapi.PodSandboxConfig) { c.Hostname = strings.Repeat("h", 64) }, nil, "hostname", strings.Repeat("h", 64) + "\n"},
		"the host's name":                   {hostNetwork, nil, "hostname; cat /etc/hostname", hostname + "\n" + hostname + "\n"},
		"a user reads them":                 {nil, asUser(1000), "cat /etc/hostname; grep -c localhost /etc/hosts; test -r /etc/resolv.conf && echo yes", "p\n2\nyes\n"},
		"a user writes none":                {nil, asUser(1000), "for f in hostname hosts resolv.conf; do echo x 2>/dev/null >>/etc/$f || echo no; done", "no\nno\nno\n"},
		"root writes them":                  {nil, nil, "for f in hostname hosts resolv.conf; do echo x >>/etc/$f && echo yes; done", "yes\nyes\nyes\n"},
		"not over a read-only root":         {nil, func(c *runtimeapi.ContainerConfig) { c.Linux.SecurityContext.ReadonlyRootfs = true }, "for f in hostname hosts resolv.conf; do echo x 2>/dev/null >>/etc/$f || echo no; done", "no\nno\nno\n"},
		"the host's resolv.conf":            {nil, nil, "cat /etc/resolv.conf", file("/etc/resolv.conf")},
		"empty DNS is none":                 {func(c *runtimeapi.PodSandboxConfig) { c.DnsConfig = &runtimeapi.DNSConfig{} }, nil, "cat /etc/resolv.conf", file("/etc/resolv.conf")},
		"host network and hosts":            {hostNetwork, nil, "cat /etc/hosts", file("/etc/hosts")},
		"localhost of both families":        {nil, nil, "grep -w localhost /etc/hosts | cut -f1", "127.0.0.1\n::1\n"},
		"shared memory of 64 MiB":           {nil, nil, "df -k /dev/shm | tail -1 | awk '{print $2}'; stat -c %a /dev/shm", "65536\n1777\n"},
		"shared memory is not for programs": {nil, nil, "awk '$5==\"/dev/shm\"{print $6}' /proc/self/mountinfo", "rw,nosuid,nodev,noexec,relatime\n"},
		"a user's shared memory":            {nil, asUser(1000), "echo x >/dev/shm/x && cat /dev/shm/x", "x\n"},
		"DNS": {func(c *runtimeapi.PodSandboxConfig) {
			c.DnsConfig = &runtimeapi.DNSConfig{Servers: []string{"10.0.0.10", "fd00::10"}, Searches: []string{"a.test", "b.test"}, Options: []string{"ndots:5", "edns0"}}
		}, nil, "cat /etc/resolv.conf", "search a.test b.test\nnameserver 10.0.0.10\nnameserver fd00::10\noptions ndots:5 edns0\n"},
	} {
		n.sub(name, func(n *node) {
			var change []func(*runtimeapi.PodSandboxConfig)
			if tc.pod != nil {
				change = append(change, tc.pod)
			}
			cfg := n.podConfig("p", change...)
			pod := n.pod(cfg)
			defer n.removePod(pod)
			var with []func(*runtimeapi.ContainerConfig)
			if tc.container != nil {
				with = append(with, tc.container)
			}
			if err := os.RemoveAll(n.path("log/p")); err != nil {
				t.Fatal(err)
			}
			if out, st := n.output(pod, "c", tc.script, with...); out != tc.want {
				t.Errorf("got %q (exit %d), want %q", out, st.ExitCode, tc.want)
			}
		})
	}
}

func asUser(uid int64) func(*runtimeapi.ContainerConfig) {
	return func(c *runtimeapi.ContainerConfig) {
		c.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: uid}
	}
}

// What one container writes, its neighbour reads; no other pod does.
func TestPodFilesAreShared(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod, other := n.pod(n.podConfig("one")), n.pod(n.podConfig("two"))
	n.output(pod, "writes", "echo shared >/dev/shm/x; echo 1.2.3.4 added >>/etc/hosts; echo own >/own")
	const read = "cat /dev/shm/x 2>/dev/null; grep -c added /etc/hosts; cat /own 2>/dev/null"
	if out, _ := n.output(pod, "reads", read); out != "shared\n1\n" {
		t.Errorf("in the same pod: %q", out)
	}
	if out, _ := n.output(other, "reads", read); out != "0\n" {
		t.Errorf("in another pod: %q", out)
	}
	n.restart()
	if out, _ := n.output(pod, "reads-later", read); out != "shared\n1\n" {
		t.Errorf("after a restart: %q", out)
	}
	// The host's IPC comes with the host's shared memory.
	mine, err := os.CreateTemp("/dev/shm", "e2e-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(mine.Name())
	host := n.pod(n.podConfig("host-ipc", podNamespaces(&runtimeapi.NamespaceOption{Pid: modeContainer, Ipc: modeNode})))
	out, _ := n.output(host, "reads", "ls "+mine.Name(), inNamespaces(&runtimeapi.NamespaceOption{Pid: modeContainer, Ipc: modeNode}))
	if out != mine.Name()+"\n" {
		t.Errorf("the host's shared memory: %q", out)
	}
}
