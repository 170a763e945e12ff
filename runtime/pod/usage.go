package pod

import (
	"fmt"

	"github.com/berth-cri/berth/linux/namespace"
	"github.com/berth-cri/berth/runtime/stats"
	"github.com/containerd/errdefs"
)

// Stats reads what the cgroup has used that the kubelet made for the pod:
// processes in no container and files in memory volumes count there too.
// ErrNotFound when there is none, or none of the pod's own: see Owners.
func (s *Service) Stats(p *Pod, owners map[string]string, parts stats.Parts) (stats.Reading, error) {
	r := p.Record()
	parent := r.Config.GetLinux().GetCgroupParent()
	if parent == "" || owners[parent] != r.Config.GetMetadata().GetUid() {
		return stats.Reading{}, fmt.Errorf("pod sandbox %s has no cgroup of its own: %w", r.ID, errdefs.ErrNotFound)
	}
	at, err := s.CgroupParent(p)
	if err != nil {
		return stats.Reading{}, err
	}
	reading, err := p.meter.Read(s.Cgroups.Load(at).Dir, parts)
	if err != nil {
		return stats.Reading{}, fmt.Errorf("stats of pod sandbox %s: %w", r.ID, err)
	}
	return reading, nil
}

// CgroupParent is the path of the cgroup that the pod's containers are in.
func (s *Service) CgroupParent(p *Pod) (string, error) {
	return s.Cgroups.Parent(p.Record().Config.GetLinux().GetCgroupParent())
}

// Owners says whose the cgroup parents are: the UID of the pod that names it,
// or "" when several do, as people do who start pods by hand.
func (s *Service) Owners() map[string]string {
	owners := map[string]string{}
	for _, p := range s.index.All() {
		cfg := p.Record().Config
		parent, uid := cfg.GetLinux().GetCgroupParent(), cfg.GetMetadata().GetUid()
		if other, ok := owners[parent]; ok && other != uid {
			uid = ""
		}
		owners[parent] = uid
	}
	return owners
}

// Networks reads what the pods' interfaces have carried. The result has a nil
// for each pod that has no network of its own, or has lost it.
func (s *Service) Networks(pods []*Pod) []*stats.Network {
	paths, which := []string{}, []int{}
	for i, p := range pods {
		if at := p.Namespace(namespace.Net); at != "" && p.Record().State == Ready {
			paths, which = append(paths, at), append(which, i)
		}
	}
	all := make([]*stats.Network, len(pods))
	if len(paths) == 0 {
		return all
	}
	read, err := stats.Networks(paths)
	if err != nil {
		s.Log.Debug("network stats", "error", err) // a pod that was stopped meanwhile
	}
	for i, n := range read {
		all[which[i]] = n
	}
	return all
}
