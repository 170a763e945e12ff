package pod

import (
	"context"
	"fmt"
)

// Plugins are asked and told at the steps of a pod's life (package nri). They are
// called with no lock held, and come back in bounded time. What only tells them
// has no error: nothing could be done about it.
type Plugins interface {
	// Hold keeps new plugins from joining until release is called, so that one
	// that joins sees a step either in the list that it begins with or as a call.
	// Holds must not be nested, and not wait for anything but plugins and files.
	Hold() (release func())
	RunPod(ctx context.Context, p *Pod) error
	UpdatePod(ctx context.Context, p *Pod, now *Resources) error
	PodUpdated(ctx context.Context, p *Pod)
	// StopPod and RemovePod are told once, however often they are called; as
	// RunPod, they are called under a Hold.
	StopPod(ctx context.Context, p *Pod)
	RemovePod(ctx context.Context, p *Pod)
}

// noPlugins is a node without.
type noPlugins struct{}

func (noPlugins) Hold() func()                                      { return func() {} }
func (noPlugins) RunPod(context.Context, *Pod) error                { return nil }
func (noPlugins) UpdatePod(context.Context, *Pod, *Resources) error { return nil }
func (noPlugins) PodUpdated(context.Context, *Pod)                  {}
func (noPlugins) StopPod(context.Context, *Pod)                     {}
func (noPlugins) RemovePod(context.Context, *Pod)                   {}

// open makes a finished pod ready, if the plugins let it be; else they have
// heard of its end.
func (s *Service) open(ctx context.Context, p *Pod) error {
	defer s.Plugins.Hold()()
	p.at("plugins")
	err := s.Plugins.RunPod(ctx, p)
	if err != nil {
		err = fmt.Errorf("plugins: %w", err)
	} else if err = p.move(Started); err == nil {
		return nil
	}
	s.Plugins.StopPod(ctx, p)
	s.Plugins.RemovePod(ctx, p)
	return err
}

func (s *Service) tellStop(ctx context.Context, p *Pod) {
	defer s.Plugins.Hold()()
	s.Plugins.StopPod(ctx, p)
}
