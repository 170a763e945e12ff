package cri

import (
	"context"

	"github.com/berth-cri/berth/runtime/pod"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListPodSandbox. CRI: the parts of the filter are ANDed; an unknown id gives
// an empty list.
func (s *Server) ListPodSandbox(_ context.Context, r *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	f := r.GetFilter()
	if f.GetState() != nil {
		if _, ok := runtimeapi.PodSandboxState_name[int32(f.State.State)]; !ok {
			return nil, badEnum("filter.state", int32(f.State.State))
		}
	}
	pods := s.Pods.List()
	if id := f.GetId(); id != "" {
		pods = nil
		if p, err := s.Pods.Get(id); err == nil && p.Record().State != pod.Creating {
			pods = append(pods, p)
		}
	}
	reply := &runtimeapi.ListPodSandboxResponse{}
	for _, p := range pods {
		rec := p.Record()
		state := sandboxState(rec)
		if f.GetState() != nil && f.State.State != state || !matches(rec.Config.GetLabels(), f.GetLabelSelector()) {
			continue
		}
		reply.Items = append(reply.Items, &runtimeapi.PodSandbox{
			Id:             rec.ID,
			Metadata:       rec.Config.GetMetadata(),
			State:          state,
			CreatedAt:      rec.CreatedAt,
			Labels:         rec.Config.GetLabels(),
			Annotations:    rec.Config.GetAnnotations(),
			RuntimeHandler: rec.Handler,
		})
	}
	return reply, nil
}
