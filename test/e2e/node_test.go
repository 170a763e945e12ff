package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// node is one daemon with everything that belongs to it.
type node struct {
	t        *testing.T
	n        int // makes names of this node's own
	dir      string
	cgroup   string // parent of all its cgroups
	bridge   string
	env      []string
	network  string   // of the [cni] section; empty: the builtin network
	pins     string   // of the [image] section, a TOML list
	progress string   // how long a pull may stand still; empty: 5m
	config   string   // more of config.toml
	runtimes []string // OCI runtimes that are configured, see handler_test.go
	cmd      *exec.Cmd
	log      *lockedBuffer
	conn     *grpc.ClientConn
	rt       runtimeapi.RuntimeServiceClient
	images   runtimeapi.ImageServiceClient
	started  map[int]bool // monitors seen, to be ended
}

var nodes atomic.Int32

// newNode starts a daemon. When the test ends everything is removed over the
// CRI, the daemon and the monitor are ended, and nothing may be left. Tests with
// nodes run beside each other.
func newNode(t *testing.T, change ...func(*node)) *node {
	t.Helper()
	t.Parallel()
	n := prepareNode(t, change...)
	n.start()
	return n
}

// runID tells the cgroups of this run from those of another. A PID does not, where
// each has a PID namespace of its own.
var runID = rand.Uint64()

// prepareNode is newNode without the start.
func prepareNode(t *testing.T, change ...func(*node)) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "bn-") // short: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	// As /run/berth is: what is in it has to be reached from user namespaces.
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	n := &node{
		t: t, n: int(nodes.Add(1)), dir: dir, log: &lockedBuffer{}, started: map[int]bool{},
	}
	n.cgroup = topCgroup(n.n)
	n.bridge = fmt.Sprintf("be%d-%d", os.Getpid()%100000, n.n)
	n.runtimes = own(nil, []string{standardRuntime})
	for _, f := range change {
		f(n)
	}
	n.configure()
	t.Cleanup(n.finish)
	return n
}

// faults arms fault points in the daemons of a node.
func faults(points string) func(*node) {
	return func(n *node) { n.env = append(n.env, "BERTH_FAULTS="+points) }
}

// sub runs a part of the test on the same node, which it must not restart.
func (n *node) sub(name string, f func(n *node)) {
	n.t.Run(name, func(t *testing.T) {
		part := *n
		part.t = t
		f(&part)
	})
}

func (n *node) path(elem ...string) string {
	return filepath.Join(append([]string{n.dir}, elem...)...)
}

// configure writes config.toml and the way to the registry.
func (n *node) configure() {
	n.t.Helper()
	if n.network == "" {
		// A subnet of this process's and this node's own: other tests run on the machine.
		subnet := fmt.Sprintf("%d.%d", 90+os.Getpid()%100, n.n%250)
		n.network = fmt.Sprintf(`
builtin_network = true
builtin_bridge = %q
builtin_subnets = ["10.%s.0/24", "fd86:be27:%x:%x::/64"]`, n.bridge, subnet, os.Getpid()%0xffff, n.n)
	}
	n.write("config.toml", fmt.Sprintf(`
root = %q
state = %q
listen = %q
cgroup_driver = %q
default_cgroup_parent = %q
default_runtime = %q
[log]
level = "debug"
[image]
registry_config_dir = %q
pinned = %s
pull_progress_timeout = %q
[cni]
conf_dir = %q
bin_dirs = [%q]
%s
%s
`, n.path("root"), n.path("state"), n.path("sock"), driver, n.cgroup, standardRuntime, n.path("certs.d"), cmp.Or(n.pins, "[]"), cmp.Or(n.progress, "5m"), n.path("net.d"), n.path("cni-bin"), n.network, n.config+ociRuntimes(n.runtimes...)))
	n.write("certs.d/registry.test/hosts.toml", fmt.Sprintf("server = %q\n", served.URL))
	n.write("certs.d/mirrored.test/hosts.toml", fmt.Sprintf("server = \"http://127.0.0.1:1\"\n[host.%q]\ncapabilities = [\"pull\", \"resolve\"]\n", served.URL))
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

// start runs the daemon and waits until it answers.
func (n *node) start() {
	n.t.Helper()
	n.launch()
	eventually(n.t, 20*time.Second, "the daemon answers", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := n.rt.Version(ctx, &runtimeapi.VersionRequest{}, grpc.WaitForReady(true))
		return err
	})
	n.started[n.monitor()] = true
}

// launch is start without the wait.
func (n *node) launch() {
	n.t.Helper()
	n.cmd = exec.Command(filepath.Join(programs, "berth"), "serve", "--config", n.path("config.toml"))
	n.cmd.Env = append(os.Environ(), n.env...)
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	if n.conn != nil {
		n.conn.Close()
	}
	var err error
	n.conn, err = grpc.NewClient("unix://"+n.path("sock"), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 2 * time.Millisecond, Multiplier: 1.5, MaxDelay: 50 * time.Millisecond}, MinConnectTimeout: time.Second}))
	if err != nil {
		n.t.Fatal(err)
	}
	n.rt = runtimeapi.NewRuntimeServiceClient(n.conn)
	n.images = runtimeapi.NewImageServiceClient(n.conn)
}

// kill ends the daemon with SIGKILL.
func (n *node) kill() {
	n.cmd.Process.Kill()
	n.cmd.Wait()
}

// restart kills the daemon and starts the next one.
func (n *node) restart() {
	n.t.Helper()
	n.kill()
	n.start()
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

// killMonitor ends the monitor with SIGKILL and waits for the next one.
func (n *node) killMonitor() {
	n.t.Helper()
	old := n.monitor()
	if err := unix.Kill(old, unix.SIGKILL); err != nil {
		n.t.Fatal(err)
	}
	eventually(n.t, 10*time.Second, "a new monitor", func() error {
		if n.monitor() == old {
			return fmt.Errorf("still %d", old)
		}
		return nil
	})
	n.started[n.monitor()] = true
}

// finish removes everything over the CRI, stops the programs, and looks for leaks.
func (n *node) finish() {
	if n.t.Failed() {
		n.t.Logf("daemon log of %s:\n%s", n.dir, n.log.tail(200))
	}
	n.removeAll()
	n.leaksOver()
	n.cmd.Process.Signal(unix.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- n.cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil && n.cmd.ProcessState.ExitCode() != 0 {
			n.t.Errorf("the daemon ended with %v", err)
		}
	case <-time.After(15 * time.Second):
		n.t.Errorf("the daemon does not stop at SIGTERM")
		n.kill()
	}
	n.conn.Close()
	for pid := range n.started {
		if cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); bytes.Contains(cmdline, []byte(n.dir)) {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	n.leaksAfter()
	unix.Unmount(n.path("state"), unix.MNT_DETACH)
	removeCgroups(n.cgroup)
	command("ip", "link", "del", n.bridge)
	os.RemoveAll(n.dir)
}

func (n *node) removeAll() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	list, err := n.rt.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		n.t.Errorf("list pods at the end: %v", err)
		return
	}
	for _, p := range list.Items {
		if _, err := n.rt.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			n.t.Errorf("stop pod at the end: %v", err)
		}
		if _, err := n.rt.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			n.t.Errorf("remove pod at the end: %v", err)
		}
	}
}

// eventually calls f until it returns nil or the time is over.
func eventually(t *testing.T, limit time.Duration, what string, f func() error) {
	t.Helper()
	limit = patience(limit)
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %s: %v", what, limit, err)
}

func command(name string, args ...string) string {
	out, _ := exec.Command(name, args...).CombinedOutput()
	return string(out)
}

// lockedBuffer is the daemon's log.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) tail(lines int) string {
	all := strings.Split(l.String(), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func killPid(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
