package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Status. CRI: at least the conditions RuntimeReady and NetworkReady. It takes
// no lock that an operation may hold: the kubelet calls the node not ready when
// it fails for 30 s.
func (s *Server) Status(ctx context.Context, r *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	network := &runtimeapi.RuntimeCondition{Type: runtimeapi.NetworkReady, Status: true}
	if err := s.Network.Status(ctx); err != nil {
		network.Status = false
		network.Reason = "NetworkPluginNotReady"
		network.Message = "Network plugin returns error: " + err.Error()
	}
	reply := &runtimeapi.StatusResponse{
		Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
			{Type: runtimeapi.RuntimeReady, Status: true}, network,
		}},
		RuntimeHandlers: s.Handlers,
		Features:        s.Features,
	}
	if r.GetVerbose() {
		reply.Info = map[string]string{}
		for k, v := range s.Info() {
			one, err := info(v)
			if err != nil {
				return nil, err
			}
			reply.Info[k] = one["info"]
		}
	}
	return reply, nil
}
