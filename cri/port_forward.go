package cri

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// PortForward grants connections to a pod's ports and answers with the URL of
// the streams. The ports are those that the client names with each stream; the
// request names them only for a WebSocket, which has no such thing.
func (s *Server) PortForward(_ context.Context, r *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	for _, port := range r.GetPort() {
		if port < 1 || port > 65535 {
			return nil, fmt.Errorf("forward ports of pod sandbox %s: port %d is out of range: %w", r.GetPodSandboxId(), port, errdefs.ErrInvalidArgument)
		}
	}
	p, err := s.Pods.Get(r.GetPodSandboxId())
	if err == nil {
		err = p.CheckReady("forward ports")
	}
	if err != nil {
		return nil, fmt.Errorf("forward ports of pod sandbox %s: %w", r.GetPodSandboxId(), err)
	}
	r.PodSandboxId = p.Record().ID
	url, err := s.Streams.PortForward(r)
	return &runtimeapi.PortForwardResponse{Url: url}, err
}
