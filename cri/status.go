package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// configurationLoaded is a condition of Berth's own, beside the two that the
// kubelet looks at.
const configurationLoaded = "BerthConfigurationLoaded"

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
	configuration := &runtimeapi.RuntimeCondition{Type: configurationLoaded, Status: true}
	if err := s.Configuration(); err != nil {
		configuration.Status = false
		configuration.Reason = "InvalidConfiguration"
		configuration.Message = "The node runs with the configuration from before: " + err.Error()
	}
	runtime := &runtimeapi.RuntimeCondition{Type: runtimeapi.RuntimeReady, Status: true}
	if err := s.Monitor(); err != nil {
		runtime.Status, runtime.Reason, runtime.Message = false, "MonitorNotReady", err.Error()
	}
	reply := &runtimeapi.StatusResponse{
		Status:          &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{runtime, network, configuration}},
		RuntimeHandlers: s.Handlers(),
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
