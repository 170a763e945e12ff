package cgroup

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-cri/berth/linux"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestMain is also the process that tests put into cgroups: it waits for a
// line on its standard input, as berth-init does, and then misbehaves.
func TestMain(m *testing.M) {
	switch os.Getenv("CGROUP_TEST_PROCESS") {
	case "":
		os.Exit(m.Run())
	case "sleep":
		waitForGo()
		time.Sleep(time.Hour)
	case "eat":
		waitForGo()
		eat()
	case "hold":
		waitForGo()
		eaten = append(eaten, bytes.Repeat([]byte{1}, 8<<20))
		time.Sleep(time.Hour)
	case "fork":
		waitForGo()
		forkBomb()
	}
}

func waitForGo() {
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
}

var eaten [][]byte

func eat() {
	for len(eaten) < 256 { // MiB: a bound for a host that does not limit
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = byte(i)
		}
		eaten = append(eaten, b)
	}
}

// forkBomb keeps starting sleeping copies of itself for as long as it can.
func forkBomb() {
	for {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{"CGROUP_TEST_PROCESS=fork", "GOMAXPROCS=1"}
		in, err := cmd.StdinPipe()
		if err == nil && cmd.Start() == nil {
			io.WriteString(in, "go\n")
		} else {
			time.Sleep(time.Millisecond)
		}
	}
}

// process starts a blocked process of the given kind; release lets it go.
func process(t testing.TB, kind string) (cmd *exec.Cmd, release func()) {
	t.Helper()
	cmd = exec.Command("/proc/self/exe")
	cmd.Env = []string{"CGROUP_TEST_PROCESS=" + kind, "GOMAXPROCS=1"}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd, func() { io.WriteString(in, "go\n") }
}

// join moves a blocked process, as the monitor does.
func join(t testing.TB, c *Cgroup, pid int) {
	t.Helper()
	v2dir, procs := c.Placement()
	if v2dir != "" {
		procs = append(procs, v2dir+"/cgroup.procs")
	}
	for _, f := range procs {
		if err := linux.WriteKernel(f, strconv.Itoa(pid)); err != nil {
			t.Fatal(err)
		}
	}
}

// host returns a manager with a parent of the test's own, which is removed.
func host(t testing.TB) *Manager {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("cgroups need root")
	}
	m, err := Open(Options{Driver: "cgroupfs", Parent: testParent(t)})
	if err != nil {
		t.Skipf("no cgroups here: %v", err)
	}
	return owned(t, m)
}

// onlyTracking is a v2 manager on the real cgroup2 of any host; on a hybrid
// one that has no controllers but is the same code and the same kernel.
func onlyTracking(t testing.TB) *Manager {
	t.Helper()
	m := host(t)
	if m.unify < 0 {
		t.Skip("no cgroup2 here")
	}
	v2, err := newManager([]hierarchy{m.trees[m.unify]}, Options{Driver: "cgroupfs", Parent: testParent(t) + "-v2"})
	if err != nil {
		t.Fatal(err)
	}
	return owned(t, v2)
}

// onlyV1 is a manager that does not know of the host's cgroup2.
func onlyV1(t testing.TB) *Manager {
	t.Helper()
	m := host(t)
	var trees []hierarchy
	for _, h := range m.trees {
		if !h.v2 {
			trees = append(trees, h)
		}
	}
	if len(trees) == 0 {
		t.Skip("no cgroup v1 here")
	}
	v1, err := newManager(trees, Options{Driver: "cgroupfs", Parent: testParent(t) + "-v1"})
	if err != nil {
		t.Fatal(err)
	}
	return owned(t, v1)
}

// run tells the cgroups of this run from those of another. A PID does not, where
// each has a PID namespace of its own.
var run = rand.Uint64()

func testParent(t testing.TB) string {
	name := strings.Map(func(r rune) rune {
		if r == '/' || r == ' ' || r == ':' {
			return '_'
		}
		return r
	}, t.Name())
	return fmt.Sprintf("/berth-test-%x-%s", run, name)
}

func owned(t testing.TB, m *Manager) *Manager {
	t.Cleanup(func() {
		for _, h := range m.trees {
			left, _ := filepath.Glob(h.dir(m.parent) + "/*/")
			for _, dir := range left {
				t.Errorf("left behind: %s", dir)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := removeTree(ctx, h.dir(m.parent)); err != nil {
				t.Errorf("remove the test's parent: %v", err)
			}
		}
	})
	return m
}

// every runs a test on each kind of hierarchy that this host can show.
func every(t *testing.T, f func(*testing.T, *Manager)) {
	t.Run("host", func(t *testing.T) { f(t, host(t)) })
	t.Run("v1", func(t *testing.T) { f(t, onlyV1(t)) })
	t.Run("v2", func(t *testing.T) { f(t, onlyTracking(t)) })
}

// create makes a cgroup that the test removes again.
func create(t testing.TB, m *Manager, id string, res *specs.LinuxResources) *Cgroup {
	t.Helper()
	p, err := m.Path("", "pod", id)
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Create(context.Background(), p, res)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, c) })
	return c
}

func end(t testing.TB, c *Cgroup) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := errors.Join(c.Kill(ctx), c.Remove(ctx)); err != nil {
		t.Error(err)
	}
	for _, i := range c.owned() {
		if _, err := os.Stat(c.dir(i)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("still there: %s", c.dir(i))
		}
	}
}

func ptr[T any](v T) *T { return &v }

// file reads a file of the container's cgroup in the tree of the controller.
func file(t testing.TB, c *Cgroup, controller, name string) string {
	t.Helper()
	i, ok := c.m.place[controller]
	if !ok {
		t.Fatalf("no %s controller", controller)
	}
	b, err := os.ReadFile(c.m.trees[i].dir(c.path) + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
