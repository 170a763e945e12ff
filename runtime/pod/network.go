package pod

import (
	"strings"

	"github.com/berth-cri/berth/cni/network"
	"github.com/berth-cri/berth/linux/namespace"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// networkPod is what the network knows of a pod, the same for setting up and
// taking down.
func networkPod(p *Pod) network.Pod {
	r := p.Record()
	n := network.Pod{
		ID:           r.ID,
		Name:         r.Config.GetMetadata().GetName(),
		Namespace:    r.Config.GetMetadata().GetNamespace(),
		UID:          r.Config.GetMetadata().GetUid(),
		Netns:        p.Namespace(namespace.Net),
		Annotations:  r.Config.GetAnnotations(),
		CgroupParent: r.Config.GetLinux().GetCgroupParent(),
	}
	if dns := r.Config.GetDnsConfig(); dns != nil {
		n.DNS = network.DNS{Servers: dns.Servers, Searches: dns.Searches, Options: dns.Options}
	}
	for _, m := range r.Config.GetPortMappings() {
		if m.HostPort <= 0 {
			continue // CRI: 0 is no host port, and must be taken
		}
		n.PortMappings = append(n.PortMappings, network.PortMapping{
			HostPort:      m.HostPort,
			ContainerPort: m.ContainerPort,
			Protocol:      strings.ToLower(runtimeapi.Protocol_name[int32(m.Protocol)]),
			HostIP:        m.HostIp,
		})
	}
	return n
}
