package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// berth runs a command of the operator's command line.
func (n *node) berth(args ...string) (string, error) {
	out, err := exec.Command(filepath.Join(programs, "berth"), args...).CombinedOutput()
	return string(out), err
}

// reconfigure writes a drop-in and waits until the daemon has read it.
func (n *node) reconfigure(toml string) {
	n.t.Helper()
	n.write("config.d/50-test.toml", toml)
	n.untilLoaded(true)
}

// untilLoaded waits until the daemon runs with its files, or says why not.
func (n *node) untilLoaded(want bool) (why string) {
	n.t.Helper()
	eventually(n.t, 15*time.Second, fmt.Sprintf("configuration loaded: %t", want), func() error {
		r, err := n.rt.Status(n.ctx(), &runtimeapi.StatusRequest{})
		if err != nil {
			return err
		}
		for _, c := range r.Status.Conditions {
			if c.Type != "BerthConfigurationLoaded" {
				continue
			}
			why = c.Message
			if c.Status != want {
				return fmt.Errorf("%t %s", c.Status, c.Message)
			}
		}
		out, err := n.berth("config", "diff", "--config", n.path("config.toml"), "--state", n.path("state"))
		if want && (err != nil || strings.Contains(out, "in a moment")) {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return why
}

func TestReload(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	old := n.pod(n.podConfig("old"))
	counting := n.run(old, containerConfig("counter", counter))
	daemon := n.cmd.Process.Pid

	n.reconfigure(`
[image]
pinned = ["` + busybox + `"]
[container]
enable_unprivileged_ports = false
[container.rlimits]
core = "4096"
[runtimes.second]
type = "embedded"
[log]
level = "info"
`)
	if !n.image(busybox).Pinned {
		t.Error("image.pinned is not in effect")
	}
	cfg := n.podConfig("now")
	r, err := n.rt.RunPodSandbox(n.ctx(), &runtimeapi.RunPodSandboxRequest{Config: cfg, RuntimeHandler: "second"})
	if err != nil {
		t.Fatal("the new handler:", err)
	}
	out, _ := n.output(r.PodSandboxId, "shows", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ulimit -c")
	if now := strings.Join(strings.Fields(out), " "); now != "1024 8" { // in blocks of 512 bytes
		t.Errorf("sysctl and limit: %q", now)
	}
	st, err := n.rt.Status(n.ctx(), &runtimeapi.StatusRequest{Verbose: true})
	if err != nil || len(st.RuntimeHandlers) != own(3, 4) || !strings.Contains(st.Info["config"], "50-test.toml") {
		t.Errorf("status: %v, %v", st, err)
	}

	// Nothing of a file that is not valid in one place takes effect.
	n.write("config.d/50-test.toml", "[image]\npinned = []\nmax_concurrent_layers = 0\n")
	why := n.untilLoaded(false)
	for _, want := range []string{"50-test.toml", "image.max_concurrent_layers", "0 is not between"} {
		if !strings.Contains(why, want) {
			t.Errorf("the condition does not say %q: %s", want, why)
		}
	}
	if !n.image(busybox).Pinned {
		t.Error("a part of a file that is not valid took effect")
	}
	out, err = n.berth("config", "diff", "--state", n.path("state"))
	if err == nil || !strings.Contains(out, "image.max_concurrent_layers") {
		t.Errorf("config diff: %v, %s", err, out)
	}
	if out, err = n.berth("doctor", "--config", n.path("config.toml"), "--root", n.path("root"), "--state", n.path("state")); err == nil || !strings.Contains(out, "FAIL") || !strings.Contains(out, "50-test.toml") {
		t.Errorf("doctor of the files that are not valid: %v, %s", err, out)
	}
	if out, _ = n.berth("doctor", "--root", n.path("root"), "--state", n.path("state")); !strings.Contains(out, "image.max_concurrent_layers") {
		t.Errorf("doctor does not say it: %s", out)
	}
	// Neither does one that names what is missing.
	n.write("config.d/50-test.toml", "[image]\npinned = []\n[container]\nseccomp_profile = \"/not/there\"\n")
	eventually(t, 15*time.Second, "the missing profile is named", func() error {
		if why := n.untilLoaded(false); !strings.Contains(why, "container.seccomp_profile") {
			return fmt.Errorf("%s", why)
		}
		return nil
	})

	// What waits for a restart stays and is shown.
	n.reconfigure("listen = \"" + n.path("other.sock") + "\"\n[grpc]\nmax_send_message_size = \"17MiB\"\n")
	if n.image(busybox).Pinned {
		t.Error("what was set is not taken back")
	}
	n.cmd.Process.Signal(unix.SIGHUP)
	eventually(t, 15*time.Second, "the signal is answered", func() error {
		if log := n.log.String(); !strings.Contains(log, "waits for a restart") || !strings.Contains(log, "grpc.max_send_message_size") {
			return fmt.Errorf("no line")
		}
		return nil
	})
	out, err = n.berth("config", "diff", "--state", n.path("state"))
	if err != nil || strings.Count(out, "at the next restart") != 2 || !strings.Contains(out, `"17MiB"`) {
		t.Errorf("config diff: %v, %s", err, out)
	}
	os.Remove(n.path("config.d/50-test.toml"))
	eventually(t, 15*time.Second, "no difference", func() error {
		out, err := n.berth("config", "diff", "--state", n.path("state"))
		if err != nil || !strings.Contains(out, "runs with what its files say") {
			return fmt.Errorf("%v, %s", err, out)
		}
		return nil
	})
	if n.cmd.Process.Pid != daemon || n.status(counting).State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Error("a reload has stopped something")
	}
}

// TestReloadNetwork moves a node from the built-in network to a directory of
// configurations and back, under a pod that stays attached.
func TestReloadNetwork(t *testing.T) {
	n := newNode(t)
	n.installPlugin()
	n.pull(busybox)
	first := n.pod(n.podConfig("first"))
	builtin := n.network
	n.network = "builtin_network = false"
	n.configure()
	n.untilNetwork(false)
	n.write("net.d/10-test.conflist", `{"cniVersion": "1.0.0", "name": "shell", "plugins": [{"type": "shell-plugin"}]}`)
	n.untilNetwork(true)
	second := n.pod(n.podConfig("second"))
	if len(n.calls(second)) == 0 || len(n.calls(first)) != 0 {
		t.Errorf("plugin calls: %v, %v", n.calls(first), n.calls(second))
	}
	n.network = builtin
	n.configure()
	eventually(t, 15*time.Second, "the built-in network is back", func() error {
		if out, err := n.berth("config", "diff", "--state", n.path("state")); err != nil || strings.Contains(out, "KEY") {
			return fmt.Errorf("%v, %s", err, out)
		}
		return nil
	})
	n.untilNetwork(true)
	third := n.pod(n.podConfig("third"))
	if v4, _ := n.addresses(third); v4 == "" || len(n.calls(third)) != 0 {
		t.Errorf("address %q, plugin calls %v", v4, n.calls(third))
	}
	for _, p := range []string{second, first, third} {
		n.stopPod(p)
		n.removePod(p)
	}
	if calls := n.calls(second); calls[len(calls)-1] != "DEL" {
		t.Errorf("plugin calls: %v", calls)
	}
}
