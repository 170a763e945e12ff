package cri

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// UpdateRuntimeConfig tells the pod CIDR of the node, one per IP family,
// separated by commas. It matters to a node whose CNI configuration is rendered
// from a template.
func (s *Server) UpdateRuntimeConfig(_ context.Context, r *runtimeapi.UpdateRuntimeConfigRequest) (*runtimeapi.UpdateRuntimeConfigResponse, error) {
	var cidrs []string
	for _, c := range strings.Split(r.GetRuntimeConfig().GetNetworkConfig().GetPodCidr(), ",") {
		if c = strings.TrimSpace(c); c == "" {
			continue
		}
		if _, err := netip.ParsePrefix(c); err != nil {
			return nil, fmt.Errorf("network_config.pod_cidr %q: %w: %w", c, err, errdefs.ErrInvalidArgument)
		}
		cidrs = append(cidrs, c)
	}
	if len(cidrs) > 0 {
		if err := s.Network.SetPodCIDR(cidrs); err != nil {
			return nil, fmt.Errorf("set pod CIDR: %w", err)
		}
	}
	return &runtimeapi.UpdateRuntimeConfigResponse{}, nil
}
