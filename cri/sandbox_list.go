package cri

import (
	"context"

	"github.com/berth-cri/berth/runtime/pod"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListPodSandbox. CRI: the parts of the filter are ANDed; an unknown id gives
// an empty list.
func (s *Server) ListPodSandbox(_ context.Context, r *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	list, err := s.listSandboxes(r.GetFilter())
	if err != nil {
		return nil, err
	}
	return reply(&runtimeapi.ListPodSandboxResponse{}, list), nil
}

// StreamPodSandboxes is ListPodSandbox in chunks.
func (s *Server) StreamPodSandboxes(r *runtimeapi.StreamPodSandboxesRequest, to runtimeapi.RuntimeService_StreamPodSandboxesServer) error {
	list, err := s.listSandboxes(r.GetFilter())
	if err != nil {
		return err
	}
	return streamEntries(list, func(chunk [][]byte) error {
		return to.Send(reply(&runtimeapi.StreamPodSandboxesResponse{}, chunk))
	})
}

func (s *Server) listSandboxes(f *runtimeapi.PodSandboxFilter) ([][]byte, error) {
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
	wanted := make([]*pod.Record, 0, len(pods))
	for _, p := range pods {
		rec := p.Record()
		if f.GetState() != nil && f.State.State != sandboxState(rec) || !matches(rec.Config.GetLabels(), f.GetLabelSelector()) {
			continue
		}
		wanted = append(wanted, rec)
	}
	all := f.GetId() == "" && len(wanted) == len(pods)
	return s.podEntries.of(wanted, all, func(rec *pod.Record) proto.Message {
		return &runtimeapi.PodSandbox{
			Id:             rec.ID,
			Metadata:       rec.Config.GetMetadata(),
			State:          sandboxState(rec),
			CreatedAt:      rec.CreatedAt,
			Labels:         rec.Config.GetLabels(),
			Annotations:    rec.Config.GetAnnotations(),
			RuntimeHandler: rec.Handler,
		}
	})
}
