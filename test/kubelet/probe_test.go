package kubelet

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func execProbe(command ...string) corev1.ProbeHandler {
	return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: command}}
}

func httpProbe(path string) corev1.ProbeHandler {
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(8080)}}
}

func tcpProbe(port int32) corev1.ProbeHandler {
	return corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(port)}}
}

func grpcProbe(service string) corev1.ProbeHandler {
	return corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 9000, Service: &service}}
}

func probed(name string, startup, readiness, liveness corev1.ProbeHandler) corev1.Container {
	often := func(h corev1.ProbeHandler) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: h, PeriodSeconds: 1, TimeoutSeconds: 1, FailureThreshold: 3}
	}
	c := corev1.Container{Name: name, Image: probee, StartupProbe: often(startup), ReadinessProbe: often(readiness), LivenessProbe: often(liveness)}
	c.StartupProbe.FailureThreshold = 60
	return c
}

// Probes of every kind that succeed make a pod ready and leave it alone.
func probesSucceed(n *node, t *testing.T) {
	all := []corev1.ProbeHandler{httpProbe("/"), tcpProbe(8080), grpcProbe(""), execProbe("true")}
	names := []string{"http", "tcp", "grpc", "exec"}
	for i := range all {
		name := "probe-" + names[i]
		n.run(t, pod(name, probed("main", all[(i+1)%4], all[(i+2)%4], all[i])))
	}
	for _, name := range names {
		n.until(t, "probe-"+name, "ready", isReady)
	}
}

// One that fails its liveness probe is restarted, one that fails its readiness
// probe is not ready.
func probesFail(n *node, t *testing.T) {
	failing := map[string]corev1.ProbeHandler{
		"http": httpProbe("/ill"), "tcp": tcpProbe(1), "grpc": grpcProbe("ill"), "exec": execProbe("false"), "slow": execProbe("sleep", "60"),
	}
	for name, h := range failing {
		p := pod("live-"+name, probed("main", tcpProbe(8080), execProbe("true"), h))
		p.Spec.TerminationGracePeriodSeconds = ptr(int64(1))
		n.run(t, p)
		n.run(t, pod("unready-"+name, probed("main", tcpProbe(8080), h, execProbe("true"))))
	}
	for name := range failing {
		n.until(t, "live-"+name, "restarted", func(p *corev1.Pod) error {
			if c := container(p, "main"); c.RestartCount == 0 {
				return fmt.Errorf("not restarted")
			}
			return nil
		})
		p := n.until(t, "unready-"+name, "started", func(p *corev1.Pod) error {
			if c := container(p, "main"); c.Started == nil || !*c.Started {
				return fmt.Errorf("not started")
			}
			return nil
		})
		if isReady(p) == nil || container(p, "main").RestartCount != 0 {
			t.Errorf("%s: ready %t, %d restarts", name, isReady(p) == nil, container(p, "main").RestartCount)
		}
	}
	for name := range failing {
		n.remove(t, "live-"+name)
		n.remove(t, "unready-"+name)
	}
}
