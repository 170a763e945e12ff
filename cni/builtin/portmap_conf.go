package builtin

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
)

type portmapConf struct {
	types.PluginConf
	Backend              string   `json:"backend"`
	SNAT                 *bool    `json:"snat"`
	MasqAll              bool     `json:"masqAll"`
	ConditionsV4         []string `json:"conditionsV4"`
	ConditionsV6         []string `json:"conditionsV6"`
	MarkMasqBit          *int     `json:"markMasqBit"`
	ExternalSetMarkChain *string  `json:"externalSetMarkChain"`
	RuntimeConfig        struct {
		PortMaps []portEntry `json:"portMappings"`
	} `json:"runtimeConfig"`

	ports []hostPort
}

type portEntry struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

// hostPort is a port of the host that leads into the pod.
type hostPort struct {
	protocol  byte
	host, pod uint16
	ip        netip.Addr // the host's; unspecified: all of its family, invalid: all
}

func (p hostPort) String() string {
	name := map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}[p.protocol]
	if p.ip.IsValid() {
		return fmt.Sprintf("%s/%s", netip.AddrPortFrom(p.ip, p.host), name)
	}
	return fmt.Sprintf("%d/%s", p.host, name)
}

func parsePortmap(config []byte) (*portmapConf, error) {
	c := &portmapConf{}
	if err := parse("portmap", config, c); err != nil {
		return nil, err
	}
	for _, u := range []struct {
		set  bool
		what string
	}{
		{c.Backend != "" && c.Backend != "nftables", "backend " + c.Backend},
		// Text in the language of iptables(8) or nft(8).
		{len(c.ConditionsV4) != 0, "conditionsV4"},
		{len(c.ConditionsV6) != 0, "conditionsV6"},
		// Marks of the iptables backend.
		{c.MarkMasqBit != nil, "markMasqBit"},
		{c.ExternalSetMarkChain != nil, "externalSetMarkChain"},
	} {
		if u.set {
			return nil, &Unsupported{"portmap", u.what}
		}
	}
	for _, e := range c.RuntimeConfig.PortMaps {
		p, err := e.parse()
		if err != nil {
			return nil, fmt.Errorf("portmap: port mapping %+v: %w: %w", e, err, errdefs.ErrInvalidArgument)
		}
		c.ports = append(c.ports, p)
	}
	return c, nil
}

func (c *portmapConf) snat() bool { return c.SNAT == nil || *c.SNAT }

func (e portEntry) parse() (p hostPort, err error) {
	switch strings.ToLower(e.Protocol) {
	case "tcp", "":
		p.protocol = unix.IPPROTO_TCP
	case "udp":
		p.protocol = unix.IPPROTO_UDP
	case "sctp":
		p.protocol = unix.IPPROTO_SCTP
	default:
		return p, fmt.Errorf("unknown protocol")
	}
	if e.HostPort <= 0 || e.HostPort > 0xffff {
		return p, fmt.Errorf("invalid host port number")
	}
	if e.ContainerPort <= 0 || e.ContainerPort > 0xffff {
		return p, fmt.Errorf("invalid container port number")
	}
	p.host, p.pod = uint16(e.HostPort), uint16(e.ContainerPort)
	if e.HostIP != "" {
		p.ip, err = netip.ParseAddr(e.HostIP)
		if err == nil && p.ip.Zone() != "" {
			err = fmt.Errorf("zones are not supported")
		}
		p.ip = p.ip.Unmap()
	}
	return p, err
}

// of tells whether the port is open on addresses of the family.
func (p hostPort) of(is4 bool) bool { return !p.ip.IsValid() || p.ip.Is4() == is4 }
