package cri

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/berth-cri/berth/runtime/pod"
	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// PodSandboxStatus. CRI: NotFound when there is no such sandbox. Addresses stay
// until the sandbox is removed, and the statuses of its containers come along.
//
// There is no timestamp, as from containerd: where the feature gate EventedPLEG is
// on, the kubelet takes one for the offer to believe containers_statuses instead of
// asking for each container, and then it does not know which of them belong to the
// pod's present sandbox; it runs init containers again and again beside themselves
// (kubernetes/kubernetes#133371, still so in 1.37).
func (s *Server) PodSandboxStatus(_ context.Context, r *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	p, err := s.Pods.Get(r.GetPodSandboxId())
	if err == nil && p.Record().State == pod.Creating {
		err = fmt.Errorf("is being created: %w", errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("status of pod sandbox %s: %w", r.GetPodSandboxId(), err)
	}
	rec := p.Record()
	reply := &runtimeapi.PodSandboxStatusResponse{
		Status:             sandboxStatus(rec),
		ContainersStatuses: s.containerStatuses(rec.ID),
	}
	if r.GetVerbose() {
		reply.Info, err = info(map[string]any{
			"config":     rec.Config,
			"record":     rec,
			"namespaces": p.Namespaces(),
			"pid":        reaperPid(rec),
			"paths":      map[string]string{"state": p.Dir()},
		})
		if err != nil {
			return nil, err
		}
	}
	return reply, nil
}

// containerStatuses are those of the containers of a sandbox, the newest first: of
// several with one name, the first that is found is the one that counts.
func (s *Server) containerStatuses(pod string) []*runtimeapi.ContainerStatus {
	var all []*runtimeapi.ContainerStatus
	for _, c := range s.Containers.List() {
		if c.Record().Pod == pod {
			all = append(all, containerStatus(c))
		}
	}
	slices.SortStableFunc(all, func(a, b *runtimeapi.ContainerStatus) int { return cmp.Compare(b.CreatedAt, a.CreatedAt) })
	return all
}

func sandboxStatus(r *pod.Record) *runtimeapi.PodSandboxStatus {
	st := &runtimeapi.PodSandboxStatus{
		Id:             r.ID,
		Metadata:       r.Config.GetMetadata(),
		State:          sandboxState(r),
		CreatedAt:      r.CreatedAt,
		Network:        &runtimeapi.PodSandboxNetworkStatus{},
		Labels:         r.Config.GetLabels(),
		Annotations:    r.Config.GetAnnotations(),
		RuntimeHandler: r.Handler,
		Linux: &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{
			Options: r.Config.GetLinux().GetSecurityContext().GetNamespaceOptions(),
		}},
	}
	for i, ip := range r.IPs {
		if i == 0 {
			st.Network.Ip = ip
			continue
		}
		st.Network.AdditionalIps = append(st.Network.AdditionalIps, &runtimeapi.PodIP{Ip: ip})
	}
	return st
}

func sandboxState(r *pod.Record) runtimeapi.PodSandboxState {
	if r.State == pod.Ready {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

func reaperPid(r *pod.Record) int {
	if r.Reaper == nil {
		return 0
	}
	return r.Reaper.Pid
}
