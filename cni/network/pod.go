package network

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/libcni"
)

// Pod is what the plugins are told about a pod.
type Pod struct {
	ID        string `json:"id"` // of the sandbox
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	UID       string `json:"uid"`
	Netns     string `json:"netns"` // path of the pinned network namespace

	PortMappings []PortMapping     `json:"portMappings,omitempty"` // those without a host port are left out
	DNS          DNS               `json:"dns,omitzero"`
	Annotations  map[string]string `json:"annotations,omitempty"` // also hold the pod's bandwidth
	CgroupParent string            `json:"cgroupParent,omitempty"`
}

// PortMapping is a port of the host that leads to one of the pod.
type PortMapping struct {
	HostPort      int32  `json:"hostPort"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol"` // tcp, udp or sctp
	HostIP        string `json:"hostIP,omitempty"`
}

// DNS are the pod's resolver settings, as the dns capability has them.
type DNS struct {
	Servers  []string `json:"servers,omitempty"`
	Searches []string `json:"searches,omitempty"`
	Options  []string `json:"options,omitempty"`
}

// Result of a Setup.
type Result struct {
	IPs       []netip.Addr // of the first network's interface, in the plugins' order
	Interface string       // its name in the pod
	Raw       []byte       // the CNI result of the first network, in the version of its configuration
}

// bandwidth is the capability of that name: bits and bits per second.
type bandwidth struct {
	IngressRate  uint64 `json:"ingressRate"`
	IngressBurst uint64 `json:"ingressBurst"`
	EgressRate   uint64 `json:"egressRate"`
	EgressBurst  uint64 `json:"egressBurst"`
}

// runtimeConf is how libcni is told about the pod; names and order as containerd
// sends them, since plugins look for them.
func (p *Pod) runtimeConf(ifName, netns string) (*libcni.RuntimeConf, error) {
	rt := &libcni.RuntimeConf{
		ContainerID: p.ID,
		NetNS:       netns,
		IfName:      ifName,
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", p.Namespace},
			{"K8S_POD_NAME", p.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", p.ID},
			{"K8S_POD_UID", p.UID},
		},
		CapabilityArgs: map[string]any{},
	}
	var ports []PortMapping
	for _, m := range p.PortMappings {
		if m.HostPort == 0 {
			continue
		}
		m.Protocol = strings.ToLower(m.Protocol)
		ports = append(ports, m)
	}
	if len(ports) > 0 {
		rt.CapabilityArgs["portMappings"] = ports
	}
	if d := p.DNS; len(d.Servers)+len(d.Searches)+len(d.Options) > 0 {
		rt.CapabilityArgs["dns"] = d
	}
	if len(p.Annotations) > 0 {
		rt.CapabilityArgs["io.kubernetes.cri.pod-annotations"] = p.Annotations
	}
	if p.CgroupParent != "" {
		rt.CapabilityArgs["cgroupPath"] = p.CgroupParent
	}
	b, err := p.bandwidth()
	if err != nil {
		return nil, err
	}
	if b != (bandwidth{}) {
		rt.CapabilityArgs["bandwidth"] = b
	}
	return rt, nil
}

// bandwidth reads the annotations that Kubernetes documents for traffic shaping.
func (p *Pod) bandwidth() (b bandwidth, err error) {
	for _, a := range []struct {
		key         string
		rate, burst *uint64
	}{
		{"kubernetes.io/ingress-bandwidth", &b.IngressRate, &b.IngressBurst},
		{"kubernetes.io/egress-bandwidth", &b.EgressRate, &b.EgressBurst},
	} {
		text, ok := p.Annotations[a.key]
		if !ok {
			continue
		}
		if *a.rate, err = parseRate(text); err != nil {
			return b, fmt.Errorf("annotation %s: %w", a.key, err)
		}
		*a.burst = math.MaxInt32 // no limit but the rate, and no field overflows
	}
	return b, nil
}
