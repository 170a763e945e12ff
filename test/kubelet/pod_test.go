package kubelet

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	busybox = "registry.test/busybox:1"
	probee  = "registry.test/probee:1"
)

// suffix is what the kubelet adds to the names of static pods.
const suffix = "-berth-node"

// shell is a container of busybox that runs a script.
func shell(name, script string) corev1.Container {
	return corev1.Container{Name: name, Image: busybox, Command: []string{"sh", "-c", script}}
}

// sleeps waits for its end and goes at SIGTERM.
func sleeps(name string) corev1.Container {
	return shell(name, "trap 'exit 0' TERM; sleep 100000 & wait")
}

// web is a container that serves, and is ready when it does.
func web(ports ...corev1.ContainerPort) corev1.Container {
	return corev1.Container{Name: "web", Image: probee, Ports: ports, StartupProbe: &corev1.Probe{ProbeHandler: httpProbe("/"), PeriodSeconds: 1, FailureThreshold: 60}}
}

// pod is a static pod; static ones are restarted always, as the kubelet says.
func pod(name string, containers ...corev1.Container) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: corev1.PodSpec{
			Containers:                    containers,
			TerminationGracePeriodSeconds: ptr(int64(5)),
		},
	}
}

// run puts a pod's manifest where the kubelet looks.
func (n *node) run(t testing.TB, p *corev1.Pod) {
	t.Helper()
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	// In one step, or the kubelet finds a file without a pod in it.
	if err := os.Rename(n.write("manifests/."+p.Name, string(b)), n.path("manifests", p.Name+".json")); err != nil {
		t.Fatal(err)
	}
}

// get is a pod as the kubelet tells it; nil if there is none.
func (n *node) get(name string) (*corev1.Pod, error) {
	pods, err := n.api.pods()
	for i := range pods {
		if pods[i].Name == name+suffix {
			return &pods[i], nil
		}
	}
	return nil, err
}

// until waits for something to be true of a pod and returns it.
func (n *node) until(t testing.TB, name, what string, f func(*corev1.Pod) error) *corev1.Pod {
	t.Helper()
	var p *corev1.Pod
	eventually(t, 90*time.Second, name+": "+what, func() (err error) {
		if p, err = n.get(name); err != nil {
			return err
		}
		if p == nil {
			return fmt.Errorf("the kubelet has no such pod")
		}
		if err = f(p); err != nil {
			b, _ := json.Marshal(p.Status)
			err = fmt.Errorf("%w: %s", err, b)
		}
		return err
	})
	return p
}

// ready runs a pod and waits until it is.
func (n *node) ready(t testing.TB, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	n.run(t, p)
	return n.until(t, p.Name, "ready", isReady)
}

func isReady(p *corev1.Pod) error {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("not ready")
}

// container is the status of one, of whatever kind.
func container(p *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return &corev1.ContainerStatus{}
}
