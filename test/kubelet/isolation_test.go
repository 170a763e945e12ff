package kubelet

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const hostPort = 18080

func hostNetwork(n *node, t *testing.T) {
	p := pod("host-network", sleeps("main"))
	p.Spec.HostNetwork = true
	n.ready(t, p)
	n.wantOutputs(t, "host-network", "main", map[string]string{
		"ip -4 addr show uplink | grep -o 'inet [0-9.]*'": "inet " + nodeIP,
		"hostname": hostname(t),
	})
}

func hostname(t *testing.T) string {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// A pod with a network of its own, both families, and a port of the host.
func podNetwork(n *node, t *testing.T) {
	side := sleeps("main")
	side.Env = []corev1.EnvVar{
		{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: field("status.podIP")}},
		{Name: "HOST", ValueFrom: &corev1.EnvVarSource{FieldRef: field("status.hostIP")}},
		{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
	}
	side.Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: quantity("2")}
	side.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: quantity("10m")}
	p := pod("network", web(corev1.ContainerPort{ContainerPort: 8080, HostPort: hostPort}), side)
	p.Spec.Hostname, p.Spec.Subdomain = "named", "sub"
	p.Spec.HostAliases = []corev1.HostAlias{{IP: "10.9.8.7", Hostnames: []string{"alias.test"}}}
	p.Spec.DNSPolicy = corev1.DNSNone
	p.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"10.9.9.9"}, Searches: []string{"a.test"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr("3")}}}
	got := n.ready(t, p)
	if len(got.Status.PodIPs) != 2 || !strings.HasPrefix(got.Status.PodIP, "10.87.16.") {
		t.Errorf("addresses: %v", got.Status.PodIPs)
	}
	n.wantOutputs(t, "network", "main", map[string]string{
		"echo $IP $HOST $CPU":                       got.Status.PodIP + " " + nodeIP + " 2",
		"wget -qO- http://localhost:8080/":          "well",
		"hostname":                                  "named",
		"grep alias.test /etc/hosts | tr '\\t' ' '": "10.9.8.7 alias.test",
		"cat /etc/resolv.conf":                      "search a.test\nnameserver 10.9.9.9\noptions ndots:3",
	})
	// The loopback device's own addresses, and the machine's.
	for _, host := range []string{"127.0.0.1", nodeIP} {
		eventually(t, 10*time.Second, "the port of the host at "+host, func() error {
			r, err := (&http.Client{Timeout: 2 * time.Second}).Get(fmt.Sprintf("http://%s:%d/", host, hostPort))
			if err == nil {
				r.Body.Close()
			}
			return err
		})
	}
}

func userNamespace(n *node, t *testing.T) {
	p := pod("userns", sleeps("main"), web())
	p.Spec.HostUsers = ptr(false)
	p.Spec.Volumes = []corev1.Volume{
		{Name: "disk", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "names", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: "name", FieldRef: field("metadata.name")}}}}},
	}
	for i := range p.Spec.Containers {
		p.Spec.Containers[i].VolumeMounts = []corev1.VolumeMount{mount("disk", "/disk"), mount("names", "/names")}
	}
	n.ready(t, p)
	ids := strings.Fields(n.exec(t, "userns", "main", "cat", "/proc/self/uid_map"))
	if len(ids) != 3 || ids[0] != "0" || atoi(ids[1]) < 65536 || ids[2] != "65536" {
		t.Errorf("ids: %v", ids)
	}
	n.wantOutputs(t, "userns", "main", map[string]string{
		"id -u": "0",
		"touch /disk/f; stat -c '%u %g' /disk /disk/f": "0 0\n0 0",
		"cat /names/name":                  "userns" + suffix,
		"hostname other || true":           "hostname: sethostname: Operation not permitted",
		"wget -qO- http://localhost:8080/": "well",
	})
}

func securityContext(n *node, t *testing.T) {
	main := sleeps("main")
	main.SecurityContext = &corev1.SecurityContext{
		ReadOnlyRootFilesystem:   ptr(true),
		AllowPrivilegeEscalation: ptr(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_BIND_SERVICE"}},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	all := sleeps("privileged")
	all.SecurityContext = &corev1.SecurityContext{Privileged: ptr(true), RunAsUser: ptr(int64(0)), RunAsNonRoot: ptr(false)}
	for _, c := range []*corev1.Container{&main, &all} {
		c.VolumeMounts = []corev1.VolumeMount{mount("disk", "/disk")}
	}
	p := pod("security", main, all)
	p.Spec.Volumes = []corev1.Volume{{Name: "disk", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	p.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsUser: ptr(int64(1000)), RunAsGroup: ptr(int64(3000)), RunAsNonRoot: ptr(true), FSGroup: ptr(int64(2000)),
		SupplementalGroups: []int64{4000}, SupplementalGroupsPolicy: ptr(corev1.SupplementalGroupsPolicyStrict),
		Sysctls: []corev1.Sysctl{{Name: "net.ipv4.ip_local_port_range", Value: "20000 21000"}},
	}
	got := n.ready(t, p)
	if u := container(got, "main").User; u == nil || u.Linux == nil || u.Linux.UID != 1000 || u.Linux.GID != 3000 {
		t.Errorf("the user in the status: %+v", u)
	}
	n.wantOutputs(t, "security", "main", map[string]string{
		"id -u; id -g; id -G":               "1000\n3000\n3000 2000 4000",
		"touch /f":                          "touch: /f: Read-only file system",
		"touch /disk/f; stat -c %g /disk/f": "2000",
		"grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | tr '\\n\\t' '  '": "CapEff: 0000000000000000 NoNewPrivs: 1 Seccomp: 2",
		"grep CapBnd /proc/self/status | cut -f2":                                   "0000000000000400",
		"cat /proc/sys/net/ipv4/ip_local_port_range":                                "20000\t21000",
	})
	n.wantOutputs(t, "security", "privileged", map[string]string{
		"id -u": "0",
		"mount -t tmpfs x /mnt 2>/dev/null || mkdir /mnt && mount -t tmpfs x /mnt && echo mounted": "mounted",
	})
}

// The namespaces of the host, as a pod may ask for them.
func hostNamespaces(n *node, t *testing.T) {
	p := pod("host-namespaces", sleeps("main"))
	p.Spec.HostPID, p.Spec.HostIPC = true, true
	n.ready(t, p)
	link := func(of string) string {
		s, err := os.Readlink("/proc/self/ns/" + of)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	n.wantOutputs(t, "host-namespaces", "main", map[string]string{
		"readlink /proc/self/ns/pid": link("pid"), "readlink /proc/self/ns/ipc": link("ipc"),
	})
}
