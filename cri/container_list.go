package cri

import (
	"context"
	"fmt"

	"github.com/berth-cri/berth/runtime/container"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ListContainers. CRI: the parts of the filter are ANDed; an unknown id gives
// an empty list.
func (s *Server) ListContainers(_ context.Context, r *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	list, err := s.listContainers(r.GetFilter())
	if err != nil {
		return nil, err
	}
	return reply(&runtimeapi.ListContainersResponse{}, list), nil
}

// StreamContainers is ListContainers in chunks.
func (s *Server) StreamContainers(r *runtimeapi.StreamContainersRequest, to runtimeapi.RuntimeService_StreamContainersServer) error {
	list, err := s.listContainers(r.GetFilter())
	if err != nil {
		return err
	}
	return streamEntries(list, func(chunk [][]byte) error {
		return to.Send(reply(&runtimeapi.StreamContainersResponse{}, chunk))
	})
}

// containerVersion is what an entry of the list tells.
type containerVersion struct {
	record *container.Record
	state  runtimeapi.ContainerState
}

func (s *Server) listContainers(f *runtimeapi.ContainerFilter) ([][]byte, error) {
	if f.GetState() != nil {
		if _, ok := runtimeapi.ContainerState_name[int32(f.State.State)]; !ok {
			return nil, badEnum("filter.state", int32(f.State.State))
		}
	}
	containers := s.Containers.List()
	if id := f.GetId(); id != "" {
		containers = nil
		if c, err := s.Containers.Get(id); err == nil && listed(c) {
			containers = append(containers, c)
		}
	}
	pod := f.GetPodSandboxId()
	if pod != "" {
		if p, err := s.Pods.Get(pod); err == nil { // a prefix, as crictl sends it
			pod = p.Record().ID
		}
	}
	wanted := make([]containerVersion, 0, len(containers))
	for _, c := range containers {
		rec, state := c.Record(), c.Status().State.CRI()
		if pod != "" && rec.Pod != pod ||
			f.GetState() != nil && f.State.State != state ||
			!matches(rec.Config.GetLabels(), f.GetLabelSelector()) {
			continue
		}
		wanted = append(wanted, containerVersion{rec, state})
	}
	all := f.GetId() == "" && len(wanted) == len(containers)
	return s.containerEntries.of(wanted, all, func(v containerVersion) proto.Message {
		rec := v.record
		return &runtimeapi.Container{
			Id:           rec.ID,
			PodSandboxId: rec.Pod,
			Metadata:     rec.Config.GetMetadata(),
			Image:        rec.Config.GetImage(),
			ImageRef:     rec.ImageID,
			ImageId:      rec.ImageID,
			State:        v.state,
			CreatedAt:    rec.CreatedAt,
			Labels:       rec.Config.GetLabels(),
			Annotations:  rec.Config.GetAnnotations(),
		}
	})
}

// listed says whether CreateContainer has returned the container.
func listed(c *container.Container) bool { return c.Status().State != container.Creating }

func badEnum(field string, value int32) error {
	return fmt.Errorf("%s %d: no such value: %w", field, value, errdefs.ErrInvalidArgument)
}
