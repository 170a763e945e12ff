package network

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
)

// builtinNetwork is the network that needs no file: a bridge with a subnet of
// each family, masqueraded, with host ports and limits of bandwidth.
func builtinNetwork(o Settings, leases string) (*libcni.NetworkConfigList, error) {
	type object = map[string]any
	var ranges [][]object
	seen := map[bool]bool{}
	for _, s := range o.BuiltinSubnets {
		p, err := netip.ParsePrefix(s)
		if err != nil || p != p.Masked() || seen[p.Addr().Is4()] {
			return nil, fmt.Errorf("builtin subnet %q: want at most one network per family (%v): %w", s, err, errdefs.ErrInvalidArgument)
		}
		seen[p.Addr().Is4()] = true
		ranges = append(ranges, []object{{"subnet": s}})
	}
	b, err := json.Marshal(object{
		"cniVersion": "1.1.0",
		"name":       o.BuiltinBridge,
		"plugins": []object{{
			"type":             "bridge",
			"bridge":           o.BuiltinBridge,
			"isDefaultGateway": true,
			"ipMasq":           true,
			"hairpinMode":      true,
			"ipam":             object{"type": "host-local", "ranges": ranges, "dataDir": leases},
		}, {
			"type":         "portmap",
			"capabilities": object{"portMappings": true},
		}, {
			"type":         "bandwidth",
			"capabilities": object{"bandwidth": true},
		}},
	})
	if err != nil {
		return nil, err
	}
	return parseConfList(b, "")
}
