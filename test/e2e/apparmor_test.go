package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func hasAppArmor() bool {
	enabled, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return strings.HasPrefix(string(enabled), "Y")
}

func confined(kind runtimeapi.SecurityProfile_ProfileType, ref string) func(*runtimeapi.ContainerConfig) {
	return secured(func(s *securityContext) {
		s.Apparmor = &runtimeapi.SecurityProfile{ProfileType: kind, LocalhostRef: ref}
	})
}

// parse gives policy to the kernel, and takes it away at the test's end.
func parse(t *testing.T, policy string) {
	t.Helper()
	run := func(how string) error {
		cmd := exec.Command("apparmor_parser", how, "--skip-cache")
		cmd.Stdin = strings.NewReader(policy)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Logf("apparmor_parser %s: %s", how, out)
		}
		return err
	}
	if err := run("--replace"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { run("--remove") })
}

// TestAppArmor is for a kernel that has it; make vm-test has one.
func TestAppArmor(t *testing.T) {
	if !hasAppArmor() {
		t.Skip("the host has no AppArmor")
	}
	n := newNode(t)
	n.pull(busybox)
	parse(t, `profile berth-e2e flags=(attach_disconnected) {
		file, capability, network, umount, signal, ptrace,
		deny /forbidden/** w,
	}`)
	privileged := func(c *runtimeapi.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true }
	pod := n.pod(n.podConfig("apparmor", privileged))
	const (
		standard   = runtimeapi.SecurityProfile_RuntimeDefault
		unconfined = runtimeapi.SecurityProfile_Unconfined
		local      = runtimeapi.SecurityProfile_Localhost
	)
	const current = "cat /proc/self/attr/apparmor/current; "
	// With the capability and without masks, only the profile is in the way.
	open := func(more func(*runtimeapi.ContainerConfig)) func(*runtimeapi.ContainerConfig) {
		return func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"ALL"}}
			more(c)
		}
	}
	try := func(files ...string) string {
		var b strings.Builder
		for _, f := range files {
			b.WriteString("(echo 0 >" + f + ") 2>/dev/null && echo yes || echo no; ")
		}
		return b.String()
	}
	n.inPod(pod, map[string]printed{
		"by default":  {nil, current, "berth-default (enforce)\n"},
		"the default": {confined(standard, ""), current, "berth-default (enforce)\n"},
		//lint:ignore SA1019 deprecated, and still to be honoured
		"the default by its old name": {secured(func(s *securityContext) { s.ApparmorProfile = "runtime/default" }), current, "berth-default (enforce)\n"},
		"a user's":                    {func(c *runtimeapi.ContainerConfig) { asUser(1000)(c) }, current, "berth-default (enforce)\n"},
		"with no new privileges and a filter": {secured(func(s *securityContext) {
			s.NoNewPrivs, s.Seccomp = true, &runtimeapi.SecurityProfile{ProfileType: standard}
		}), current + ofStatus("NoNewPrivs Seccomp"), "berth-default (enforce)\n1\n2\n"},
		"unconfined":                  {confined(unconfined, ""), current, "unconfined\n"},
		"privileged":                  {secured(func(s *securityContext) { s.Privileged = true }), current, "unconfined\n"},
		"one of the host":             {confined(local, "berth-e2e"), current + "mkdir /forbidden; " + try("/forbidden/f", "/f"), "berth-e2e (enforce)\nno\nyes\n"},
		"its own, and the old prefix": {confined(local, "localhost/berth-e2e"), current, "berth-e2e (enforce)\n"},
		//lint:ignore SA1019 deprecated, and still to be honoured
		"by its old name": {secured(func(s *securityContext) { s.ApparmorProfile = "localhost/berth-e2e" }), current, "berth-e2e (enforce)\n"},
		"privileged, with one of its own": {func(c *runtimeapi.ContainerConfig) {
			confined(local, "berth-e2e")(c)
			c.Linux.SecurityContext.Privileged = true
		}, current, "berth-e2e (enforce)\n"},

		// Each pair: what it forbids, and that nothing else did.
		"the default forbids": {open(confined(standard, "")),
			try("/proc/sysrq-trigger", "/proc/sys/net/ipv4/conf/lo/rp_filter", "/proc/sys/kernel/kptr_restrict", "/proc/sys/kernel/seccomp/actions_logged", "/proc/sys/vm/swappiness") +
				"mount -t tmpfs x /tmp 2>/dev/null && echo yes || echo no; head -c1 /proc/kcore >/dev/null 2>&1 && echo yes || echo no",
			strings.Repeat("no\n", 7)},
		"nobody else does": {open(confined(unconfined, "")),
			try("/proc/sys/net/ipv4/conf/lo/rp_filter") + "mount -t tmpfs x /tmp && echo yes; head -c1 /proc/kcore >/dev/null && echo yes", "yes\nyes\nyes\n"},
		"the default allows": {open(confined(standard, "")),
			try("/proc/self/oom_score_adj", "/proc/sys/kernel/shm_rmid_forced") + "echo 8000 >/proc/sys/kernel/msgmax && echo settings; " +
				"sleep 100 & kill $! && echo killed; ls /proc/1/fd >/dev/null && echo read; touch /f && chmod 700 /f && rm /f && echo file; " +
				"ip link set lo down && ip link set lo up && ping -c1 127.0.0.1 >/dev/null && echo net; echo x >/dev/null && echo x >/dev/shm/y && umount /dev/shm && echo umount",
			"yes\nyes\nsettings\nkilled\nread\nfile\nnet\numount\n"},
	})

	_, err := n.create(pod, containerConfig("missing", "true", confined(local, "no-such-profile")))
	wantCode(t, "a profile that is not loaded", err, codes.FailedPrecondition, "no-such-profile", "not loaded")

	// An exec is confined as its container, a stop by signal gets through.
	id := n.run(pod, containerConfig("longer", "trap 'exit 7' TERM; while :; do sleep 0.1; done"))
	if out, code := n.exec(id, "cat /proc/1/attr/apparmor/current /proc/self/attr/apparmor/current"); code != 0 || out != strings.Repeat("berth-default (enforce)\n", 2) {
		t.Errorf("exec: %q, exit code %d", out, code)
	}
	if out, code := n.exec(id, "echo h >/proc/sysrq-trigger"); code == 0 {
		t.Errorf("an exec may do what its container must not: %q", out)
	}
	n.stop(id, 60)
	if st := n.status(id); st.ExitCode != 7 {
		t.Errorf("stopped with exit code %d: SIGTERM did not get through", st.ExitCode)
	}
}

// TestAppArmorIsLoadedAgain unloads the default profile behind Berth's back; not
// beside other tests, whose containers have it.
func TestAppArmorIsLoadedAgain(t *testing.T) {
	if !hasAppArmor() {
		t.Skip("the host has no AppArmor")
	}
	n := prepareNode(t)
	n.start()
	n.pull(busybox)
	pod := n.pod(n.podConfig("again"))
	const current = "cat /proc/self/attr/apparmor/current"
	if out, _ := n.output(pod, "first", current, func(*runtimeapi.ContainerConfig) {}); out != "berth-default (enforce)\n" {
		t.Fatalf("at first: %q", out)
	}
	if err := os.WriteFile("/sys/kernel/security/apparmor/.remove", []byte("berth-default"), 0); err != nil {
		t.Fatal(err)
	}
	if out, _ := n.output(pod, "second", current, func(*runtimeapi.ContainerConfig) {}); out != "berth-default (enforce)\n" {
		t.Errorf("after it was unloaded: %q", out)
	}
}
