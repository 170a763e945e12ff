package kubelet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// shared gives a directory of the host to a pod, mounted as /shared everywhere.
// What containers write there the test can read when they are gone.
func (n *node) shared(p *corev1.Pod) string {
	dir := n.path("shared", p.Name)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		n.t.Fatal(err)
	}
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "shared", VolumeSource: corev1.VolumeSource{
		HostPath: &corev1.HostPathVolumeSource{Path: dir, Type: ptr(corev1.HostPathDirectory)},
	}})
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			list[i].VolumeMounts = append(list[i].VolumeMounts, corev1.VolumeMount{Name: "shared", MountPath: "/shared"})
		}
	}
	return dir
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// remove takes a pod's manifest away and waits until the kubelet has ended it: it
// lists the pod no more at once, while the containers still have their grace.
func (n *node) remove(t *testing.T, name string) {
	t.Helper()
	p, err := n.get(name)
	if err == nil && p == nil {
		err = fmt.Errorf("the kubelet has no pod %s", name)
	}
	if err == nil {
		err = os.Remove(n.path("manifests", name+".json"))
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 90*time.Second, name+" is gone", func() error {
		if p, err := n.get(name); err != nil || p != nil {
			return fmt.Errorf("it is listed, or %v", err)
		}
		if _, err := os.Stat(n.path("kubelet/pods", string(p.UID))); err == nil {
			return fmt.Errorf("it has its directory")
		}
		return nil
	})
}

func initContainers(n *node, t *testing.T) {
	p := pod("init", shell("main", "echo main >>/shared/order; sleep 100000"))
	p.Spec.InitContainers = []corev1.Container{
		shell("one", "sleep 0.5; echo one >>/shared/order"),
		// The first try fails: the kubelet tries again.
		shell("two", "echo two >>/shared/order; [ $(grep -c two /shared/order) = 2 ]"),
	}
	dir := n.shared(p)
	got := n.ready(t, p)
	for name, restarts := range map[string]int32{"one": 0, "two": 1} {
		st := container(got, name)
		if st.State.Terminated == nil || st.State.Terminated.Reason != "Completed" || st.RestartCount != restarts {
			t.Errorf("%s: %+v", name, st)
		}
	}
	eventually(t, 20*time.Second, "the main program comes last", func() error {
		if order := read(t, dir, "order"); order != "one\ntwo\ntwo\nmain\n" {
			return fmt.Errorf("order: %q", order)
		}
		return nil
	})
}

// A sidecar starts before the main container, and ends after it.
func sidecar(n *node, t *testing.T) {
	end := "trap 'echo %[1]s ends >>/shared/order; exit 0' TERM; echo %[1]s >>/shared/order; sleep 100000 & wait"
	p := pod("sidecar", shell("main", fmt.Sprintf(end, "main")))
	side := shell("side", fmt.Sprintf(end, "side"))
	side.RestartPolicy = ptr(corev1.ContainerRestartPolicyAlways)
	side.StartupProbe = &corev1.Probe{ProbeHandler: execProbe("test", "-s", "/shared/order"), PeriodSeconds: 1}
	p.Spec.InitContainers = []corev1.Container{side}
	dir := n.shared(p)
	if st := container(n.ready(t, p), "side"); st.State.Running == nil || st.Started == nil || !*st.Started {
		t.Errorf("the sidecar: %+v", st)
	}
	eventually(t, 20*time.Second, "both run", func() error {
		if order := read(t, dir, "order"); order != "side\nmain\n" {
			return fmt.Errorf("order: %q", order)
		}
		return nil
	})
	n.remove(t, "sidecar")
	if order := read(t, dir, "order"); order != "side\nmain\nmain ends\nside ends\n" {
		t.Errorf("order: %q", order)
	}
}

// Two containers see each other's files and, when the pod says so, processes.
func sharedPod(n *node, t *testing.T) {
	p := pod("multi",
		shell("one", "echo of one >/data/one; exec sleep 54321"),
		shell("two", "while ! [ -f /data/one ]; do sleep 0.1; done; exec sleep 12345"))
	p.Spec.ShareProcessNamespace = ptr(true)
	p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	for i := range p.Spec.Containers {
		p.Spec.Containers[i].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	}
	n.ready(t, p)
	out := n.exec(t, "multi", "two", "sh", "-c", "cat /data/one; ps")
	if !strings.Contains(out, "of one") || !strings.Contains(out, "sleep 54321") || !strings.Contains(out, "sleep 12345") {
		t.Errorf("two sees %s", out)
	}
	if out := n.exec(t, "multi", "two", "cat", "/proc/1/cmdline"); strings.Contains(out, "sleep") {
		t.Errorf("process 1 is a container's: %q", out)
	}
}

func hooks(n *node, t *testing.T) {
	main := shell("main", "trap 'echo term >>/shared/order; exit 0' TERM; while ! [ -f /shared/started ]; do sleep 0.1; done; echo main >>/shared/order; sleep 100000 & wait")
	main.Lifecycle = &corev1.Lifecycle{
		PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "echo post-start >>/shared/order; touch /shared/started"}}},
		PreStop:   &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "echo pre-stop >>/shared/order; sleep 1"}}},
	}
	p := pod("hooks", main)
	dir := n.shared(p)
	n.ready(t, p)
	eventually(t, 10*time.Second, "the main program goes on", func() error {
		if s, err := os.ReadFile(filepath.Join(dir, "order")); err != nil || !strings.Contains(string(s), "main") {
			return fmt.Errorf("%q", s)
		}
		return nil
	})
	n.remove(t, "hooks")
	if order := read(t, dir, "order"); order != "post-start\nmain\npre-stop\nterm\n" {
		t.Errorf("order: %q", order)
	}
	// The other kinds: a sleep, and a hook that fails, which ends the container.
	failing := sleeps("main")
	failing.Lifecycle = &corev1.Lifecycle{
		PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "exit 9"}}},
		PreStop:   &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1}},
	}
	n.run(t, pod("hook-fails", failing))
	n.until(t, "hook-fails", "restarted", func(p *corev1.Pod) error {
		if c := container(p, "main"); c.RestartCount == 0 {
			return fmt.Errorf("not restarted")
		}
		return nil
	})
	n.remove(t, "hook-fails")
}

func crashLoop(n *node, t *testing.T) {
	crash := shell("main", "echo last words; echo told >/dev/termination-log; exit 3")
	silent := shell("silent", "echo last words; exit 4")
	silent.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	n.run(t, pod("crash", crash, silent))
	p := n.until(t, "crash", "in back-off", func(p *corev1.Pod) error {
		for _, c := range p.Status.ContainerStatuses {
			if c.State.Waiting == nil || c.State.Waiting.Reason != "CrashLoopBackOff" || c.RestartCount < 1 || c.LastTerminationState.Terminated == nil {
				return fmt.Errorf("%s is not", c.Name)
			}
		}
		return nil
	})
	for name, want := range map[string]corev1.ContainerStateTerminated{
		"main":   {ExitCode: 3, Reason: "Error", Message: "told\n"},
		"silent": {ExitCode: 4, Reason: "Error", Message: "last words\n"},
	} {
		last := container(p, name).LastTerminationState.Terminated
		if last == nil || last.ExitCode != want.ExitCode || last.Reason != want.Reason || last.Message != want.Message {
			t.Errorf("%s: %+v", name, last)
		}
	}
	if out, err := n.logs("crash", "main", "previous=true"); err != nil || out != "last words\n" {
		t.Errorf("logs of the one before: %q, %v", out, err)
	}
	n.remove(t, "crash")
}

func oomKilled(n *node, t *testing.T) {
	eats := shell("main", "exec tail /dev/zero")
	// A child that is killed, and not the container, ends the container on cgroup
	// v2, where the kubelet sets memory.oom.group; the child's code tells on v1.
	child := shell("child", "tail /dev/zero; exit $?")
	for _, c := range []*corev1.Container{&eats, &child} {
		c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: quantity("24Mi")}
	}
	n.run(t, pod("oom", eats, child))
	p := n.until(t, "oom", "killed", func(p *corev1.Pod) error {
		for _, c := range p.Status.ContainerStatuses {
			if c.LastTerminationState.Terminated == nil {
				return fmt.Errorf("%s was not", c.Name)
			}
		}
		return nil
	})
	for _, c := range p.Status.ContainerStatuses {
		if last := c.LastTerminationState.Terminated; last.Reason != "OOMKilled" || last.ExitCode != 137 {
			t.Errorf("%s: %+v", c.Name, last)
		}
	}
	n.remove(t, "oom")
}

// A container has its grace period, and no more.
func gracefulTermination(n *node, t *testing.T) {
	p := pod("graceful",
		shell("takes-two", "trap 'sleep 2; echo bye >>/shared/graceful; exit 0' TERM; touch /shared/up; sleep 100000 & wait"),
		shell("refuses", "trap 'echo heard >>/shared/refuses' TERM; while :; do date +%s >>/shared/alive; sleep 0.2; done"))
	p.Spec.TerminationGracePeriodSeconds = ptr(int64(4))
	dir := n.shared(p)
	n.ready(t, p)
	eventually(t, 20*time.Second, "both run", func() error {
		_, alive := os.Stat(filepath.Join(dir, "alive"))
		_, up := os.Stat(filepath.Join(dir, "up"))
		return errors.Join(alive, up)
	})
	began := time.Now()
	n.remove(t, "graceful")
	if s := read(t, dir, "graceful"); s != "bye\n" {
		t.Errorf("the graceful one said %q", s)
	}
	if s := read(t, dir, "refuses"); s != "heard\n" {
		t.Errorf("the other one heard %q: the signal comes once", s)
	}
	alive := strings.Fields(read(t, dir, "alive"))
	if last := int64(atoi(alive[len(alive)-1])); last < began.Unix()+3 {
		t.Errorf("killed %d s after its end began", last-began.Unix())
	}
}

// One whose containers are done, and are not restarted.
func completes(n *node, t *testing.T) {
	p := pod("completes", shell("main", "echo done"))
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	n.run(t, p)
	got := n.until(t, "completes", "succeeded", func(p *corev1.Pod) error {
		if p.Status.Phase != corev1.PodSucceeded {
			return fmt.Errorf("%s", p.Status.Phase)
		}
		return nil
	})
	if st := container(got, "main").State.Terminated; st == nil || st.Reason != "Completed" || st.ExitCode != 0 {
		t.Errorf("%+v", st)
	}
	if out, err := n.logs("completes", "main"); err != nil || out != "done\n" {
		t.Errorf("its log: %q, %v", out, err)
	}
}

// A changed manifest is another pod in the place of the first.
func changedManifest(n *node, t *testing.T) {
	before := n.ready(t, pod("changed", shell("main", "echo one; sleep 100000")))
	n.run(t, pod("changed", shell("main", "echo two; sleep 100000")))
	n.until(t, "changed", "replaced", func(p *corev1.Pod) error {
		if p.UID == before.UID {
			return fmt.Errorf("still the first")
		}
		return isReady(p)
	})
	eventually(t, 20*time.Second, "its log", func() error {
		if out, err := n.logs("changed", "main"); err != nil || out != "two\n" {
			return fmt.Errorf("%q, %v", out, err)
		}
		return nil
	})
}

// What fails is told where a person looks.
func failures(n *node, t *testing.T) {
	noImage := sleeps("no-image")
	noImage.Image = "registry.test/none:1"
	noHost := sleeps("no-host")
	noHost.Image = "nowhere.invalid/x:1"
	noProgram := corev1.Container{Name: "no-program", Image: busybox, Command: []string{"/bin/none"}}
	n.run(t, pod("failures", noImage, noHost, noProgram))
	for name, want := range map[string][]string{
		"no-image":   {"ErrImagePull ImagePullBackOff", "not found"},
		"no-host":    {"ErrImagePull ImagePullBackOff", "nowhere.invalid"},
		"no-program": {"RunContainerError CrashLoopBackOff", ""},
	} {
		p := n.until(t, "failures", name, func(p *corev1.Pod) error {
			if w := container(p, name).State.Waiting; w == nil || !strings.Contains(want[0], w.Reason) || !strings.Contains(strings.ToLower(w.Message), want[1]) {
				return fmt.Errorf("%s: %+v", name, w)
			}
			return nil
		})
		t.Logf("%s: %s", name, container(p, name).State.Waiting.Message)
	}
	p := n.until(t, "failures", "told why", func(p *corev1.Pod) error {
		if container(p, "no-program").LastTerminationState.Terminated == nil {
			return fmt.Errorf("no last state")
		}
		return nil
	})
	if last := container(p, "no-program").LastTerminationState.Terminated; last.ExitCode != 128 && last.ExitCode != 127 || last.Reason != "StartError" || !strings.Contains(last.Message, "/bin/none") {
		t.Errorf("a program that is not there: %+v", last)
	}
	n.remove(t, "failures")
}
