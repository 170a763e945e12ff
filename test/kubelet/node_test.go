package kubelet

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

const (
	kubeletPort = 10250
	nodeIP      = "10.87.1.2" // of the link that setup makes
)

// node is a daemon and a kubelet, one at a time: the namespaces are one machine.
type node struct {
	t         testing.TB
	dir       string
	cgroup    string
	gates     map[string]bool
	configure func(*kubeletconfig.KubeletConfiguration)
	api       *api
	berth     *exec.Cmd
	kubelet   *exec.Cmd
}

// newNode starts a node. When the test ends the kubelet has to take everything
// down that it set up, and Berth must have nothing left.
func newNode(t testing.TB, gates map[string]bool, change ...func(*kubeletconfig.KubeletConfiguration)) *node {
	t.Helper()
	dir, err := os.MkdirTemp(work, "n")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, dir: dir, cgroup: cgroupRoot(work) + "/" + filepath.Base(dir), gates: gates, api: newAPI()}
	for _, f := range change {
		n.configure = f
	}
	for _, d := range []string{"manifests", "logs", "plugins", "kubelet"} {
		if err := os.MkdirAll(n.path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := makeCgroups(n.cgroup); err != nil {
		t.Fatal(err)
	}
	n.write("config.toml", fmt.Sprintf(`
root = %q
state = %q
listen = %q
default_cgroup_parent = %q
cgroup_driver = "cgroupfs"
[log]
level = "debug"
[image]
registry_config_dir = %q
[cni]
builtin_network = true
builtin_bridge = "bk0"
builtin_subnets = ["10.87.16.0/24", "fd86:be27:16::/64"]
`, n.path("root"), n.path("state"), n.path("berth.sock"), n.cgroup+"/berth", n.path("certs.d")))
	n.write("certs.d/registry.test/hosts.toml", fmt.Sprintf("server = %q\n", registry))
	t.Cleanup(n.finish)
	n.startBerth()
	n.startKubelet()
	return n
}

func (n *node) path(elem ...string) string {
	return filepath.Join(append([]string{n.dir}, elem...)...)
}

func (n *node) write(name, content string) string {
	n.t.Helper()
	path := n.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// launch starts a program whose output is appended to NAME.log.
func (n *node) launch(name, program string, args ...string) *exec.Cmd {
	n.t.Helper()
	log, err := os.OpenFile(n.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	return cmd
}

func (n *node) startBerth() {
	n.t.Helper()
	n.berth = n.launch("berth", filepath.Join(os.Getenv(envBin), "berth"), "serve", "--config", n.path("config.toml"))
}

// wantedSysctls are set by the kubelet at its start. The machine is not its own, so
// it finds files with its values in their place, which nobody else sees.
const wantedSysctls = `
mount --make-rprivate /proc
for s in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
	echo "${s#*=}" >"$0/$(basename "${s%=*}")" && mount --bind "$0/$(basename "${s%=*}")" "/proc/sys/${s%=*}" || exit 1
done
exec "$@"`

func (n *node) startKubelet() {
	n.t.Helper()
	config, err := json.MarshalIndent(n.configuration(), "", "  ")
	if err != nil {
		n.t.Fatal(err)
	}
	n.write("sysctls/README", "what the kubelet sees in /proc/sys\n")
	n.kubelet = n.launch("kubelet", "unshare", "--mount", "--propagation", "unchanged", "sh", "-c", wantedSysctls, n.path("sysctls"),
		kubeletBin, "--config", n.write("kubelet.json", string(config)), "--root-dir", n.path("kubelet"), "--cert-dir", n.path("kubelet/pki"),
		"--hostname-override", "berth-node", "--node-ip", nodeIP, "--v", "2")
	eventually(n.t, 60*time.Second, "the kubelet is healthy", func() error {
		if err := unix.Kill(n.kubelet.Process.Pid, 0); err != nil || exited(n.kubelet) {
			n.t.Fatalf("the kubelet ended:\n%s", n.tail("kubelet", 40))
		}
		body, err := n.api.get("/healthz")
		if err == nil && string(body) != "ok" {
			err = fmt.Errorf("%s", body)
		}
		return err
	})
}

// exited says whether a started program has ended.
func exited(cmd *exec.Cmd) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return err != nil || strings.HasPrefix(rest, "Z")
}

func kill(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait()
}

// monitor is the pid of the monitor that lives now.
func (n *node) monitor() int {
	n.t.Helper()
	var m struct{ Pid int }
	b, err := os.ReadFile(n.path("state/monitor.json"))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil || m.Pid <= 1 {
		n.t.Fatalf("monitor.json: %s, %v", b, err)
	}
	return m.Pid
}

func (n *node) tail(name string, lines int) string {
	b, _ := os.ReadFile(n.path(name + ".log"))
	all := strings.Split(string(b), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// finish takes the pods away, waits until nothing is left of them, and stops the
// programs.
func (n *node) finish() {
	if n.kubelet != nil && !exited(n.kubelet) {
		manifests, _ := filepath.Glob(n.path("manifests/*"))
		for _, m := range manifests {
			os.Remove(m)
		}
		n.nothingLeft()
	}
	for _, cmd := range []*exec.Cmd{n.kubelet, n.berth} {
		if cmd != nil {
			cmd.Process.Signal(unix.SIGTERM)
			cmd.Wait()
		}
	}
	if b, err := os.ReadFile(n.path("state/monitor.json")); err == nil {
		var m struct{ Pid int }
		if json.Unmarshal(b, &m); m.Pid > 1 {
			unix.Kill(m.Pid, unix.SIGKILL)
		}
	}
	if n.t.Failed() {
		n.t.Logf("kubelet:\n%s\nberth:\n%s", n.tail("kubelet", 60), n.tail("berth", 60))
	}
	unix.Unmount(n.path("state"), unix.MNT_DETACH)
}

// nothingLeft waits until the kubelet has removed all pods. It takes dead pods'
// sandboxes away once a minute.
func (n *node) nothingLeft() {
	eventually(n.t, 150*time.Second, "everything is taken down", func() error {
		var left []string
		for _, kind := range []string{"pods", "containers"} {
			dirs, _ := os.ReadDir(n.path("state", kind))
			for _, d := range dirs {
				left = append(left, kind+"/"+d.Name())
			}
		}
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(mounts)) {
			if f := strings.Fields(line); strings.HasPrefix(f[1], n.path("kubelet/pods")) || strings.HasPrefix(f[1], n.path("state")+"/") {
				left = append(left, f[1])
			}
		}
		for _, dir := range cgroupsBelow(n.cgroup) {
			if strings.Contains(dir, "/pod") {
				left = append(left, dir)
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("%d things are left: %s", len(left), strings.Join(left[:min(5, len(left))], " "))
		}
		return nil
	})
}

// eventually calls f until it returns nil or the time is over.
func eventually(t testing.TB, limit time.Duration, what string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %s: %v", what, limit, err)
}

func atoi(s string) int {
	i, _ := strconv.Atoi(strings.TrimSpace(s))
	return i
}
