package builtin

import (
	"fmt"
	"net"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/pkg/types"
)

type bridgeConf struct {
	types.PluginConf
	Bridge                    string  `json:"bridge"`
	IsGateway                 bool    `json:"isGateway"`
	IsDefaultGateway          bool    `json:"isDefaultGateway"`
	ForceAddress              bool    `json:"forceAddress"`
	IPMasq                    bool    `json:"ipMasq"`
	IPMasqBackend             string  `json:"ipMasqBackend"`
	MTU                       int     `json:"mtu"`
	HairpinMode               bool    `json:"hairpinMode"`
	PromiscMode               bool    `json:"promiscMode"`
	VLAN                      int     `json:"vlan"`
	VLANTrunk                 []any   `json:"vlanTrunk"`
	PreserveDefaultVLAN       bool    `json:"preserveDefaultVlan"`
	MACSpoofCheck             bool    `json:"macspoofchk"`
	EnableDAD                 bool    `json:"enabledad"`
	DisableContainerInterface bool    `json:"disableContainerInterface"`
	PortIsolation             bool    `json:"portIsolation"`
	UplinkInterface           string  `json:"uplinkInterface"`
	Arguments                 macArgs `json:"args"`
	RuntimeConfig             struct {
		MAC string `json:"mac"`
	} `json:"runtimeConfig"`

	mac net.HardwareAddr // nil: ours to choose
}

type macArgs struct {
	CNI struct {
		MAC string `json:"mac"`
	} `json:"cni"`
}

func parseBridge(r Request) (*bridgeConf, error) {
	c := &bridgeConf{Bridge: "cni0"}
	if err := parse("bridge", r.Config, c); err != nil {
		return nil, err
	}
	c.IsGateway = c.IsGateway || c.IsDefaultGateway
	for _, u := range []struct {
		set  bool
		what string
	}{
		{c.VLAN != 0, "vlan"},
		{len(c.VLANTrunk) != 0, "vlanTrunk"},
		{c.UplinkInterface != "", "uplinkInterface"},
		{c.IPMasqBackend != "" && c.IPMasqBackend != "nftables", "ipMasqBackend " + c.IPMasqBackend},
	} {
		if u.set {
			return nil, &Unsupported{"bridge", u.what}
		}
	}
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("bridge: configuration: "+format+": %w", append(args, errdefs.ErrInvalidArgument)...)
	}
	// Without a VLAN the default one is all there is, so keeping it is no wish.
	switch {
	case c.HairpinMode && c.PromiscMode:
		return nil, invalid("cannot set hairpin mode and promiscuous mode at the same time")
	case c.IPAM.Type != "" && c.DisableContainerInterface:
		return nil, invalid("cannot use IPAM when disableContainerInterface is set")
	case c.MTU < 0:
		return nil, invalid("mtu %d", c.MTU)
	}

	var env struct {
		types.CommonArgs
		MAC types.UnmarshallableString
	}
	if err := types.LoadArgs(r.Args, &env); err != nil {
		return nil, invalid("%v", err)
	}
	mac := string(env.MAC)
	for _, m := range []string{c.Arguments.CNI.MAC, c.RuntimeConfig.MAC} {
		if m != "" {
			mac = m
		}
	}
	if mac != "" {
		m, err := net.ParseMAC(mac)
		if err != nil || len(m) != 6 {
			return nil, invalid("mac %q", mac)
		}
		c.mac = m
	}
	return c, nil
}

func dnsIsSet(d types.DNS) bool {
	return d.Nameservers != nil || d.Search != nil || d.Options != nil || d.Domain != ""
}
