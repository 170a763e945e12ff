package nri

import (
	"context"

	"github.com/berth-cri/berth/runtime/pod"
	"github.com/containerd/nri/pkg/api"
)

// RunPod is for pod.Plugins, as are the others here.
func (s *Service) RunPod(ctx context.Context, p *pod.Pod) error {
	if !s.active() {
		return nil
	}
	s.known.add(p.Record().ID)
	return refused(ctx, s.lib.RunPodSandbox(ctx, &api.RunPodSandboxRequest{Pod: podOf(p)}))
}

func (s *Service) UpdatePod(ctx context.Context, p *pod.Pod, now *pod.Resources) error {
	if !s.active() {
		return nil
	}
	_, err := s.lib.UpdatePodSandbox(ctx, &api.UpdatePodSandboxRequest{
		Pod: podOf(p), OverheadLinuxResources: fromCRI(now.Overhead), LinuxResources: fromCRI(now.Sum),
	})
	return refused(ctx, err)
}

func (s *Service) PodUpdated(ctx context.Context, p *pod.Pod) {
	if !s.active() {
		return
	}
	err := s.lib.PostUpdatePodSandbox(ctx, &api.PostUpdatePodSandboxRequest{Pod: podOf(p)})
	s.told(err, "PostUpdatePodSandbox", "pod", p.Record().ID)
}

func (s *Service) StopPod(ctx context.Context, p *pod.Pod) {
	k := s.known.get(p.Record().ID)
	if k == nil || !s.active() {
		return
	}
	k.stop(func() {
		err := s.lib.StopPodSandbox(context.WithoutCancel(ctx), &api.StopPodSandboxRequest{Pod: podOf(p)})
		s.told(err, "StopPodSandbox", "pod", p.Record().ID)
	})
}

func (s *Service) RemovePod(ctx context.Context, p *pod.Pod) {
	id := p.Record().ID
	k := s.known.get(id)
	if k == nil {
		return
	}
	defer s.known.forget(id)
	if !s.active() {
		return
	}
	k.remove(func() {
		err := s.lib.RemovePodSandbox(context.WithoutCancel(ctx), &api.RemovePodSandboxRequest{Pod: podOf(p)})
		s.told(err, "RemovePodSandbox", "pod", id)
	})
}

// told logs what plugins make of something that cannot be changed any more.
func (s *Service) told(err error, call, kind, id string) {
	if err != nil {
		s.Log.Warn("a plugin fails "+call, kind, id, "error", err)
	}
}
