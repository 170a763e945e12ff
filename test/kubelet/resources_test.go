package kubelet

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// The CPU manager gives one pod a CPU of its own, and takes it away from the
// containers that run: the one way in which a kubelet without an API server
// updates containers.
func TestExclusiveCPU(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("one CPU cannot be shared out")
	}
	n := newNode(t, nil, func(c *kubeletconfig.KubeletConfiguration) {
		c.CPUManagerPolicy = "static"
		c.CPUManagerReconcilePeriod.Duration = time.Second
		c.ReservedSystemCPUs = "0"
	})
	n.ready(t, pod("shares", sleeps("main")))
	before := n.cpus(t, "shares")
	owner := sleeps("main")
	owner.Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: quantity("1"), corev1.ResourceMemory: quantity("32Mi")}
	n.ready(t, pod("owns", owner))
	own := n.cpus(t, "owns")
	if own == before || own == "0" || len(own) > 2 {
		t.Errorf("it owns %q of %q", own, before)
	}
	eventually(t, 20*time.Second, "the others are moved away", func() error {
		if now := n.cpus(t, "shares"); now == before || now == own {
			return fmt.Errorf("they may use %q", now)
		}
		return nil
	})
	n.remove(t, "owns")
	eventually(t, 20*time.Second, "the others get it back", func() error {
		if now := n.cpus(t, "shares"); now != before {
			return fmt.Errorf("they may use %q", now)
		}
		return nil
	})
	if c := container(n.until(t, "shares", "ready", isReady), "main"); c.RestartCount != 0 {
		t.Errorf("restarted %d times", c.RestartCount)
	}
}

func (n *node) cpus(t *testing.T, pod string) string {
	t.Helper()
	return fmt.Sprint(n.exec(t, pod, "main", "sh", "-c", "grep Cpus_allowed_list /proc/self/status | cut -f2 | tr -d '\\n'"))
}

// Images that nobody uses go when the disk is too full, and no others. (Static pods
// are critical: they stay when nothing more can be freed.)
func TestImageGC(t *testing.T) {
	n := newNode(t, nil)
	n.ready(t, pod("stays", sleeps("main")))
	n.ready(t, pod("goes", corev1.Container{Name: "main", Image: probee}))
	n.remove(t, "goes")
	images := func() int {
		files, _ := filepath.Glob(n.path("root/images/*.json"))
		return len(files)
	}
	if images() != 2 {
		t.Fatalf("%d images", images())
	}
	kill(n.kubelet)
	n.configure = func(c *kubeletconfig.KubeletConfiguration) {
		c.EvictionHard["nodefs.available"], c.EvictionHard["imagefs.available"] = "99%", "99%"
		c.ImageMinimumGCAge.Duration = time.Nanosecond
	}
	n.startKubelet()
	eventually(t, 150*time.Second, "one image is left", func() error {
		if images() != 1 {
			return fmt.Errorf("%d images", images())
		}
		return nil
	})
	n.until(t, "stays", "ready", isReady)
	n.ready(t, pod("again", sleeps("main")))
}
