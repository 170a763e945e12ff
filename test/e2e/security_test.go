package e2e

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type securityContext = runtimeapi.LinuxContainerSecurityContext

// secured changes a container's security context.
func secured(f func(*securityContext)) func(*runtimeapi.ContainerConfig) {
	return func(c *runtimeapi.ContainerConfig) { f(c.Linux.SecurityContext) }
}

func id64(v int64) *runtimeapi.Int64Value { return &runtimeapi.Int64Value{Value: v} }

// inPod runs each case as a container of one pod and compares what it prints.
func (n *node) inPod(pod string, cases map[string]printed) {
	for name, tc := range cases {
		n.sub(name, func(n *node) {
			if tc.change == nil {
				tc.change = func(*runtimeapi.ContainerConfig) {}
			}
			out, st := n.output(pod, strings.NewReplacer(" ", "-", "/", "-").Replace(name), tc.script, tc.change)
			if out != tc.want {
				n.t.Errorf("got %q (exit %d), want %q", out, st.ExitCode, tc.want)
			}
		})
	}
}

type printed struct {
	change func(*runtimeapi.ContainerConfig)
	script string
	want   string
}

func TestUsers(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	n.pull(users)
	pod := n.pod(n.podConfig("users", hostNetwork))
	image := func(f func(*securityContext)) func(*runtimeapi.ContainerConfig) {
		return func(c *runtimeapi.ContainerConfig) {
			c.Image.Image = users
			f(c.Linux.SecurityContext)
		}
	}
	const ids = "id -u; id -g; grep Groups /proc/self/status | cut -f2; echo $HOME"
	n.inPod(pod, map[string]printed{
		"root":                     {nil, ids, "0\n0\n0 \n/root\n"},
		"the image's":              {image(func(*securityContext) {}), ids, "1000\n50\n50 60 \n/home/app\n"},
		"by id":                    {secured(func(s *securityContext) { s.RunAsUser = id64(1000) }), ids, "1000\n1000\n50 60 1000 \n/home/app\n"},
		"by an id without a name":  {secured(func(s *securityContext) { s.RunAsUser = id64(4242) }), ids, "4242\n0\n0 \n/\n"},
		"by name":                  {secured(func(s *securityContext) { s.RunAsUsername = "app" }), ids, "1000\n1000\n50 60 1000 \n/home/app\n"},
		"id over the image's name": {image(func(s *securityContext) { s.RunAsUser = id64(0) }), ids, "0\n0\n0 \n/root\n"},
		"id and group":             {secured(func(s *securityContext) { s.RunAsUser, s.RunAsGroup = id64(1000), id64(7) }), ids, "1000\n7\n7 50 60 \n/home/app\n"},
		"name and group":           {secured(func(s *securityContext) { s.RunAsUsername, s.RunAsGroup = "app", id64(7) }), ids, "1000\n7\n7 50 60 \n/home/app\n"},
		"more groups":              {secured(func(s *securityContext) { s.RunAsUser, s.SupplementalGroups = id64(1000), []int64{9, 8, 9} }), ids, "1000\n1000\n8 9 50 60 1000 \n/home/app\n"},
		"only these groups": {secured(func(s *securityContext) {
			s.RunAsUser, s.SupplementalGroups = id64(1000), []int64{8}
			s.SupplementalGroupsPolicy = runtimeapi.SupplementalGroupsPolicy_Strict
		}), ids, "1000\n1000\n8 1000 \n/home/app\n"},
		"largest id": {secured(func(s *securityContext) { s.RunAsUser = id64(1<<31 - 1) }), "id -u", "2147483647\n"},
	})
	_, err := n.create(pod, containerConfig("missing", "true", secured(func(s *securityContext) { s.RunAsUsername = "ghost" })))
	wantInvalid(t, "a name that is not there", err, "ghost")

	// Strict shows in the status too.
	st := n.status(n.run(pod, containerConfig("strict", "true", secured(func(s *securityContext) {
		s.RunAsUser, s.SupplementalGroups = id64(1000), []int64{8}
		s.SupplementalGroupsPolicy = runtimeapi.SupplementalGroupsPolicy_Strict
	}))))
	u := st.User.GetLinux()
	if u.GetUid() != 1000 || u.GetGid() != 1000 || len(u.SupplementalGroups) != 2 {
		t.Errorf("user in the status: %v", u)
	}
}

// status prints lines of /proc/self/status without their names.
const statusOf = "for f in %s; do grep $f: /proc/self/status | cut -f2; done"

func ofStatus(fields string) string { return strings.Replace(statusOf, "%s", fields, 1) }

func TestCapabilities(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("caps", hostNetwork))
	caps := func(add, drop string) func(*runtimeapi.ContainerConfig) {
		return secured(func(s *securityContext) {
			s.Capabilities = &runtimeapi.Capability{AddCapabilities: strings.Fields(add), DropCapabilities: strings.Fields(drop)}
		})
	}
	sets := ofStatus("CapInh CapPrm CapEff CapBnd CapAmb")
	const none, usual = "0000000000000000\n", "00000000a80425fb\n"
	all := func(set string) string { return none + set + set + set + none }
	n.inPod(pod, map[string]printed{
		"default":            {nil, sets, all(usual)},
		"drop all":           {caps("", "ALL"), sets, all(none)},
		"drop all in small":  {caps("", "all"), sets, all(none)},
		"drop all but":       {caps("NET_RAW", "ALL"), sets, all("0000000000002000\n")},
		"names with CAP_":    {caps("CAP_NET_ADMIN", "CAP_CHOWN"), sets, all("00000000a80435fa\n")},
		"names in small":     {caps("net_admin", "chown"), sets, all("00000000a80435fa\n")},
		"added and dropped":  {caps("NET_ADMIN", "NET_ADMIN"), sets, all(usual)},
		"of another user":    {func(c *runtimeapi.ContainerConfig) { asUser(1000)(c) }, sets, none + none + none + usual + none},
		"net admin can":      {caps("NET_ADMIN", ""), "ip link add e2edummy type dummy 2>&1 | grep -c 'not permitted'; ip link del e2edummy 2>/dev/null", "0\n"},
		"without it, cannot": {nil, "ip link add e2edummy type dummy 2>&1 | grep -c 'not permitted'", "1\n"},
		"chown dropped":      {caps("", "CHOWN"), "touch /f; chown 1 /f 2>/dev/null || echo no", "no\n"},
		"a user's by ambience": {func(c *runtimeapi.ContainerConfig) {
			asUser(1000)(c)
			c.Linux.SecurityContext.Capabilities = &runtimeapi.Capability{AddAmbientCapabilities: []string{"NET_BIND_SERVICE"}, DropCapabilities: []string{"ALL"}}
		}, sets, strings.Repeat("0000000000000400\n", 5)},
	})
	out, _ := n.output(pod, "all", ofStatus("CapEff")+"; "+ofStatus("CapBnd"), caps("ALL", ""))
	own := strings.Fields(command("sh", "-c", "grep CapBnd: /proc/self/status"))[1]
	if out != own+"\n"+own+"\n" {
		t.Errorf("ALL gives %q, the daemon has %s", out, own)
	}
	if out, _ := n.output(pod, "all-but", ofStatus("CapEff"), caps("ALL", "CHOWN")); strings.TrimSpace(out) == own || !strings.HasSuffix(out, "e\n") {
		t.Errorf("ALL without CHOWN gives %q", out)
	}
	// What the daemon does not have itself it cannot give, and says so.
	_, err := n.create(pod, containerConfig("more", "true", caps("SYS_RESOURCE", "")))
	if strings.Contains(command("sh", "-c", "cat /proc/self/status"), "CapBnd:\t000001ffffffffff") {
		t.Skip("the daemon has every capability")
	}
	wantCode(t, "a capability that Berth lacks", err, codes.FailedPrecondition, "SYS_RESOURCE")
}

func TestPrivileged(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	privileged := func(c *runtimeapi.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true }
	pod := n.pod(n.podConfig("privileged", privileged))
	own := strings.Fields(command("sh", "-c", "grep CapBnd: /proc/self/status"))[1]
	n.inPod(pod, map[string]printed{
		"capabilities":           {secured(func(s *securityContext) { s.Privileged = true }), ofStatus("CapEff CapBnd Seccomp"), own + "\n" + own + "\n0\n"},
		"writes sysctls":         {secured(func(s *securityContext) { s.Privileged = true; s.ReadonlyPaths = []string{"/proc/sys"} }), "echo 1 >/proc/sys/net/ipv4/ip_forward && echo yes", "yes\n"},
		"sees masked paths":      {secured(func(s *securityContext) { s.Privileged = true; s.MaskedPaths = []string{"/proc/meminfo"} }), "grep -c MemTotal /proc/meminfo", "1\n"},
		"ignores its seccomp":    {secured(func(s *securityContext) { s.Privileged = true; s.Seccomp = &runtimeapi.SecurityProfile{} }), ofStatus("Seccomp"), "0\n"},
		"has the host's devices": {secured(func(s *securityContext) { s.Privileged = true }), "head -c 0 /dev/fuse && test -c /dev/kmsg && echo yes", "yes\n"},
		"mounts":                 {secured(func(s *securityContext) { s.Privileged = true }), "mount -t tmpfs x /tmp && grep -c ' /tmp tmpfs' /proc/mounts; touch /sys/x 2>&1 | grep -c -i read-only", "1\n0\n"},
		"but not its neighbour":  {nil, "echo 1 2>/dev/null >/sys/kernel/x; test -e /dev/fuse || echo none; mount -t tmpfs x /tmp 2>/dev/null || echo no; " + ofStatus("CapEff"), "none\nno\n00000000a80425fb\n"},
	})
	plain := n.pod(n.podConfig("plain"))
	_, err := n.create(plain, containerConfig("c", "true", secured(func(s *securityContext) { s.Privileged = true })))
	wantInvalid(t, "in a pod that is not privileged", err, "privileged")
}

func TestConfinement(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("confined"))
	profile := func(kind runtimeapi.SecurityProfile_ProfileType, ref string) func(*runtimeapi.ContainerConfig) {
		return secured(func(s *securityContext) {
			s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: kind, LocalhostRef: ref}
		})
	}
	noChmod := n.write("profiles/no-chmod.json", `{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_AARCH64"],
		"syscalls":[{"names":["chmod","fchmod","fchmodat","fchmodat2"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}`)
	broken := n.write("profiles/broken.json", `{"defaultAction":`)
	const chmod, unshare = "touch /f; chmod 600 /f 2>/dev/null && echo yes || echo no", "unshare -U true 2>/dev/null && echo yes || echo no"
	n.inPod(pod, map[string]printed{
		"no profile":  {nil, ofStatus("Seccomp NoNewPrivs") + ";" + chmod, "0\n0\nyes\n"},
		"unconfined":  {profile(runtimeapi.SecurityProfile_Unconfined, ""), ofStatus("Seccomp") + ";" + unshare, "0\nyes\n"},
		"the default": {profile(runtimeapi.SecurityProfile_RuntimeDefault, ""), ofStatus("Seccomp") + ";" + unshare + ";" + chmod, "2\nno\nyes\n"},
		//lint:ignore SA1019 deprecated, and still to be honoured
		"the default by its old name": {secured(func(s *securityContext) { s.SeccompProfilePath = "runtime/default" }), ofStatus("Seccomp") + ";" + unshare, "2\nno\n"},
		"of a file":                   {profile(runtimeapi.SecurityProfile_Localhost, noChmod), ofStatus("Seccomp") + ";" + chmod, "2\nno\n"},
		//lint:ignore SA1019 deprecated, and still to be honoured
		"of a file by its old name": {secured(func(s *securityContext) { s.SeccompProfilePath = "localhost/" + noChmod }), chmod, "no\n"},
		"a user's": {func(c *runtimeapi.ContainerConfig) {
			profile(runtimeapi.SecurityProfile_RuntimeDefault, "")(c)
			asUser(1000)(c)
		}, ofStatus("Seccomp NoNewPrivs"), "2\n0\n"},
		"no new privileges": {secured(func(s *securityContext) { s.NoNewPrivs = true }), ofStatus("NoNewPrivs"), "1\n"},
		"both": {func(c *runtimeapi.ContainerConfig) {
			profile(runtimeapi.SecurityProfile_RuntimeDefault, "")(c)
			c.Linux.SecurityContext.NoNewPrivs = true
			asUser(1000)(c)
		}, ofStatus("Seccomp NoNewPrivs"), "2\n1\n"},
		"AppArmor unconfined": {secured(func(s *securityContext) {
			s.Apparmor = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
		}), "echo ok", "ok\n"},

		"masked": {secured(func(s *securityContext) {
			s.MaskedPaths = []string{"/proc/meminfo", "/proc/sys", "/no/such", "/etc/passwd"}
		}),
			"wc -c </proc/meminfo; ls /proc/sys | wc -l; wc -c </etc/passwd; echo x 2>/dev/null >/proc/sys/a || echo no", "0\n0\n0\nno\n"},
		"read-only": {secured(func(s *securityContext) { s.ReadonlyPaths = []string{"/proc/sys", "/etc", "/no/such"} }),
			"echo 1 2>/dev/null >/proc/sys/net/ipv4/ip_forward || echo no; touch /etc/x 2>/dev/null || echo no; touch /x && echo yes", "no\nno\nyes\n"},
		"no such lists":      {nil, "grep -c MemTotal /proc/meminfo; echo 8000 >/proc/sys/kernel/msgmax && echo yes", "1\nyes\n"},
		"sysfs":              {nil, "touch /sys/x 2>/dev/null || echo no; ls /sys/class/net | tr '\\n' ' '", "no\neth0 lo "},
		"read-only root":     {secured(func(s *securityContext) { s.ReadonlyRootfs = true }), "touch /x 2>/dev/null || echo no; touch /dev/shm/x && echo shm; echo x >/dev/null && echo null", "no\nshm\nnull\n"},
		"a writable root":    {nil, "echo x >/bin/new && cat /bin/new; rm /bin/true && ls /bin/true 2>/dev/null || echo gone", "x\ngone\n"},
		"limits of the node": {nil, "ulimit -Sn; ulimit -Hn; ulimit -c", "1024\n" + hardLimit(t) + "\n" + coreLimit() + "\n"},
	})
	for name, tc := range map[string]struct {
		change func(*runtimeapi.ContainerConfig)
		code   codes.Code
		words  []string
	}{
		"profile that is not there":   {profile(runtimeapi.SecurityProfile_Localhost, n.path("none.json")), codes.FailedPrecondition, []string{"seccomp", "none.json"}},
		"profile that is no JSON":     {profile(runtimeapi.SecurityProfile_Localhost, broken), codes.InvalidArgument, []string{"seccomp", "broken.json"}},
		"profile that is a directory": {profile(runtimeapi.SecurityProfile_Localhost, n.dir), codes.FailedPrecondition, []string{"seccomp", "directory"}},
		"AppArmor profile":            {confined(runtimeapi.SecurityProfile_Localhost, "p"), codes.FailedPrecondition, []string{"AppArmor"}},
		//lint:ignore SA1019 deprecated, and still to be honoured
		"AppArmor profile by its old name": {secured(func(s *securityContext) { s.ApparmorProfile = "localhost/p" }), codes.FailedPrecondition, []string{"AppArmor"}},
	} {
		_, err := n.create(pod, containerConfig("c", "true", tc.change))
		wantCode(t, name, err, tc.code, tc.words...)
	}
}

// TestLabelsWithoutSELinux: pods carry labels for those nodes that have it
// (Cilium's do), and the kubelet asks for volumes to be relabelled everywhere.
func TestLabelsWithoutSELinux(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	label := &runtimeapi.SELinuxOption{User: "system_u", Role: "system_r", Type: "spc_t", Level: "s0:c1,c2"}
	pod := n.pod(n.podConfig("labelled", func(c *runtimeapi.PodSandboxConfig) { c.Linux.SecurityContext.SelinuxOptions = label }))
	dir := n.path("volume")
	n.write("volume/file", "content")
	out, _ := n.output(pod, "c", "cat /volume/file", func(c *runtimeapi.ContainerConfig) {
		c.Linux.SecurityContext.SelinuxOptions = label
		c.Mounts = []*runtimeapi.Mount{{ContainerPath: "/volume", HostPath: dir, SelinuxRelabel: true}}
	})
	if out != "content" {
		t.Errorf("got %q", out)
	}
}

func TestDevices(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	pod := n.pod(n.podConfig("devices"))
	device := func(host, container, permissions string) func(*runtimeapi.ContainerConfig) {
		return func(c *runtimeapi.ContainerConfig) {
			c.Devices = []*runtimeapi.Device{{HostPath: host, ContainerPath: container, Permissions: permissions}}
		}
	}
	link := n.path("link")
	command("ln", "-s", "/dev/null", link)
	n.inPod(pod, map[string]printed{
		"the usual":            {nil, "for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done; echo x >/dev/null; head -c 3 /dev/zero | wc -c; echo x 2>/dev/null >/dev/full || echo full", "3\nfull\n"},
		"terminals":            {nil, "test -c /dev/ptmx && test -d /dev/pts && readlink /dev/ptmx", "pts/ptmx\n"},
		"no other of the host": {nil, "ls /dev | grep -v core | tr '\\n' ' '", "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "},
		"not made by oneself":  {nil, "mknod /d b 254 0 && head -c 1 /d 2>&1 | grep -c 'not permitted'", "1\n"},
		"asked for":            {device("/dev/fuse", "/dev/deep/device", "r"), "(exec 3</dev/deep/device) && echo read; (exec 3>/dev/deep/device) 2>/dev/null || echo no write", "read\nno write\n"},
		"in its own place":     {device("/dev/fuse", "", "rw"), "(exec 3<>/dev/fuse) && echo yes", "yes\n"},
		"by a link":            {device(link, "/dev/linked", "rwm"), "test -c /dev/linked && echo x >/dev/linked && echo yes", "yes\n"},
	})
}

// hardLimit is what a container gets of 1024:524288 where the daemon may raise
// its own limit only so far.
func hardLimit(t *testing.T) string {
	return strings.TrimSpace(command("sh", "-c", "h=$(ulimit -Hn); if [ $h = unlimited ] || [ $h -gt 524288 ]; then echo 524288; else echo $h; fi"))
}

func coreLimit() string { return strings.TrimSpace(command("sh", "-c", "ulimit -Sc")) }
