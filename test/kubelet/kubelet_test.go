package kubelet

import (
	"testing"
)

// behaviours are what a pod of each kind has to do, each asked of the kubelet.
var behaviours = []struct {
	name string
	test func(*node, *testing.T)
}{
	{"init containers", initContainers},
	{"sidecar", sidecar},
	{"shared volumes and processes", sharedPod},
	{"probes that succeed", probesSucceed},
	{"probes that fail", probesFail},
	{"postStart and preStop", hooks},
	{"crash loop", crashLoop},
	{"OOMKilled", oomKilled},
	{"graceful termination", gracefulTermination},
	{"pod that completes", completes},
	{"changed manifest", changedManifest},
	{"failures are told", failures},
	{"volumes", volumes},
	{"image volume", imageVolume},
	{"host network", hostNetwork},
	{"pod network and host port", podNetwork},
	{"user namespace", userNamespace},
	{"security context", securityContext},
	{"host PID and IPC", hostNamespaces},
	{"logs and their rotation", logs},
	{"exec, attach, run, port-forward", streaming},
	{"statistics", statistics},
}

// newer are the ways in which the kubelet uses more of the CRI than by default.
var newer = map[string]bool{
	"PodAndContainerStatsFromCRI": true, "EventedPLEG": true, "CRIListStreaming": true, "ContainerStopSignals": true,
}

func TestBehaviours(t *testing.T)           { behave(t, nil) }
func TestBehavioursNewerGates(t *testing.T) { behave(t, newer) }

func behave(t *testing.T, gates map[string]bool) {
	n := newNode(t, gates)
	n.ready(t, pod("first", shell("main", counter)))
	t.Run("pods", func(t *testing.T) {
		for _, b := range behaviours {
			t.Run(b.name, func(t *testing.T) {
				t.Parallel()
				b.test(n, t)
			})
		}
	})
	t.Run("restarts", func(t *testing.T) { restarts(n, t) })
}
