package pod

import runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

// Resources are what a ready pod as a whole may use since the kubelet has
// changed its cgroup. The configuration keeps what it was made with, so that
// the same request for it is still known.
type Resources struct {
	Overhead *runtimeapi.LinuxContainerResources `json:"overhead,omitempty"`
	Sum      *runtimeapi.LinuxContainerResources `json:"resources,omitempty"` // of all containers
}

// Update takes note of them; the cgroup is the kubelet's.
func (s *Service) Update(id string, overhead, sum *runtimeapi.LinuxContainerResources) error {
	p, err := s.index.Get(id)
	if err != nil {
		return err
	}
	return p.change(func(r *Record) error {
		if r.State != Ready {
			return &TransitionError{From: r.State, Event: "update resources"}
		}
		r.Resources = &Resources{Overhead: overhead, Sum: sum}
		return nil
	})
}
