package packaging

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// counter writes a line for each number, one in a second.
const counter = `trap 'exit 0' TERM; i=0; while :; do echo $i; i=$((i+1)); /bin/busybox sleep 1; done`

// counting is a pod whose container counts.
type counting struct {
	name, pod, container, log string
	pid                       string
}

const logs = "/var/log/pods"

// startPods runs n pods that count.
func (m *machine) startPods(n int) []*counting {
	m.Helper()
	all := make([]*counting, n)
	var wait sync.WaitGroup
	for i := range all {
		wait.Go(func() {
			var err error
			if all[i], err = m.startPod(fmt.Sprintf("counter-%d", i)); err != nil {
				m.Errorf("pod %d: %v", i, err)
			}
		})
	}
	wait.Wait()
	if m.Failed() {
		m.Fatal(m.journal())
	}
	return all
}

func (m *machine) startPod(name string) (*counting, error) {
	ctx := m.ctx()
	c := &counting{name: name, log: logs + "/" + name + "/c.log"}
	cfg := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name},
		LogDirectory: logs + "/" + name, Hostname: name, Linux: &runtimeapi.LinuxPodSandboxConfig{},
	}
	if err := os.MkdirAll(cfg.LogDirectory, 0o755); err != nil {
		return nil, err
	}
	pod, err := m.rt.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: cfg})
	if err != nil {
		return nil, err
	}
	c.pod = pod.PodSandboxId
	made, err := m.rt.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: c.pod, SandboxConfig: cfg,
		Config: &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: "c"}, Image: &runtimeapi.ImageSpec{Image: busybox},
			Command: []string{"/bin/busybox", "sh", "-c", counter}, LogPath: "c.log", Linux: &runtimeapi.LinuxContainerConfig{},
		},
	})
	if err != nil {
		return nil, err
	}
	c.container = made.ContainerId
	if _, err = m.rt.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: c.container}); err != nil {
		return nil, err
	}
	c.pid, err = m.process(c)
	return c, err
}

// process tells a container's process from every other one there ever was.
func (m *machine) process(c *counting) (string, error) {
	st, err := m.rt.ContainerStatus(m.ctx(), &runtimeapi.ContainerStatusRequest{ContainerId: c.container, Verbose: true})
	if err != nil {
		return "", err
	}
	if st.Status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return "", fmt.Errorf("%s, exit code %d", st.Status.State, st.Status.ExitCode)
	}
	return fmt.Sprint(st.Status.StartedAt), nil
}

// last is the number that was written last, when none before it is missing.
func (c *counting) last() (int, error) {
	b, err := os.ReadFile(c.log)
	if err != nil {
		return 0, err
	}
	n := -1
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line) // time, stream, tag, number
		if len(f) != 4 {
			return n, fmt.Errorf("%s: line %q", c.log, line)
		}
		got, err := strconv.Atoi(f[3])
		if err != nil || got != n+1 {
			return n, fmt.Errorf("%s: %q comes after %d", c.log, f[3], n)
		}
		n = got
	}
	return n, nil
}

// goOn checks that no container ended, that none of its lines is missing, and
// that it writes more of them.
func (m *machine) goOn(all []*counting) {
	m.Helper()
	for _, c := range all {
		if now, err := m.process(c); err != nil || now != c.pid {
			m.Errorf("%s: was %s, is %s, %v", c.name, c.pid, now, err)
		}
	}
	m.countOn(all)
}

// countOn is goOn without a daemon.
func (m *machine) countOn(all []*counting) {
	m.Helper()
	for _, c := range all {
		before, err := c.last()
		if err != nil {
			m.Error(err)
			continue
		}
		m.until(c.name+" counts on", func() error {
			now, err := c.last()
			if err == nil && now <= before {
				err = fmt.Errorf("still at %d", now)
			}
			return err
		})
	}
}
