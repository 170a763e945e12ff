package packaging

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-cri/berth/imageservice/registry/registrytest"
)

const busybox = "registry.test/busybox:1"

// machine is the one that the test has for itself.
type machine struct {
	*testing.T
	rt     runtimeapi.RuntimeServiceClient
	images runtimeapi.ImageServiceClient
}

func newMachine(t *testing.T) *machine {
	conn, err := grpc.NewClient("unix:///run/berth/berth.sock", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &machine{t, runtimeapi.NewRuntimeServiceClient(conn), runtimeapi.NewImageServiceClient(conn)}
}

// sub is a part that goes on after a failure.
func (m *machine) sub(name string, f func(m *machine)) {
	began := time.Now()
	m.Run(name, func(t *testing.T) {
		part := *m
		part.T = t
		f(&part)
	})
	m.Logf("%s: %s", name, time.Since(began).Round(100*time.Millisecond))
}

// sh runs a command that must succeed.
func (m *machine) sh(line string) string {
	m.Helper()
	out, err := exec.Command("sh", "-c", line).CombinedOutput()
	if err != nil {
		m.Fatalf("%s: %v\n%s", line, err, out)
	}
	return strings.TrimSpace(string(out))
}

// until waits for something to happen: the machine is emulated, so for long.
func (m *machine) until(what string, f func() error) {
	m.Helper()
	var err error
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	m.Fatalf("%s: %v\n%s", what, err, m.journal())
}

func (m *machine) journal() string {
	out, _ := exec.Command("journalctl", "-b", "--no-pager", "-n", "60", "-u", "berth.service").CombinedOutput()
	log, _ := os.ReadFile("/run/berth/monitor.log")
	return string(out) + "\n" + string(log)
}

func (m *machine) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	m.Cleanup(cancel)
	return ctx
}

// serving waits until the daemon answers, and returns its process.
func (m *machine) serving() (pid int) {
	m.Helper()
	m.until("the daemon serves", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := m.rt.Version(ctx, &runtimeapi.VersionRequest{}, grpc.WaitForReady(true))
		if err != nil {
			return err
		}
		if state := m.property("ActiveState"); state != "active" {
			return fmt.Errorf("the unit is %s", state)
		}
		return nil
	})
	return m.mainPid()
}

func (m *machine) property(name string) string {
	out, _ := exec.Command("systemctl", "show", "-P", name, "berth.service").Output()
	return strings.TrimSpace(string(out))
}

func (m *machine) mainPid() int {
	pid, _ := strconv.Atoi(m.property("MainPID"))
	return pid
}

// monitor is who keeps the containers.
func (m *machine) monitor() (is struct {
	Pid   int    `json:"pid"`
	Build string `json:"build"`
}) {
	m.Helper()
	b, err := os.ReadFile("/run/berth/monitor.json")
	if err == nil {
		err = json.Unmarshal(b, &is)
	}
	if err != nil {
		m.Error(err)
	}
	return is
}

// alone checks that the daemon is the only process in its unit.
func (m *machine) alone() {
	m.Helper()
	cgroup := "/sys/fs/cgroup" + m.property("ControlGroup")
	b, err := os.ReadFile(filepath.Join(cgroup, "cgroup.procs"))
	if err != nil || strings.TrimSpace(string(b)) != strconv.Itoa(m.mainPid()) {
		m.Errorf("in the daemon's unit are %q, want %d alone (%v)", strings.Fields(string(b)), m.mainPid(), err)
	}
	unit, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", m.monitor().Pid))
	if err != nil || !strings.Contains(string(unit), "/system.slice/berth-monitor-") {
		m.Errorf("the monitor is in %q, %v", unit, err)
	}
}

// serveImage makes a registry with an image of busybox that the node can reach.
func (m *machine) serveImage() {
	m.Helper()
	server := registrytest.Start(m.T)
	bin, err := os.ReadFile("/bin/busybox")
	if err != nil {
		m.Fatal(err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	w.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(bin))})
	w.Write(bin)
	w.Close()
	img := registrytest.Image(m.T, registrytest.Layer{Blob: buf.Bytes(), Tar: buf.Bytes(), Type: types.DockerUncompressedLayer})
	server.Push(m.T, "busybox:1", img)
	m.write("/etc/berth/certs.d/registry.test/hosts.toml", fmt.Sprintf("server = %q\n", server.URL))
	if _, err := m.images.PullImage(m.ctx(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: busybox}}); err != nil {
		m.Fatal(err)
	}
}

func (m *machine) write(path, content string) {
	m.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o644)
	}
	if err != nil {
		m.Fatal(err)
	}
}
