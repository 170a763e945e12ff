package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-cri/berth/cni/network"
	"github.com/berth-cri/berth/config"
	"github.com/berth-cri/berth/runtime/handler"
	"github.com/berth-cri/berth/runtime/oci/external"
	"github.com/berth-cri/berth/runtime/pod"
)

// openHandlers makes the handlers of the configuration, and looks at the programs
// that they need.
func openHandlers(cfg *config.Config) (*handler.Set, error) {
	var all []*handler.Handler
	area := filepath.Join(cfg.State, "oci")
	for name, c := range cfg.Runtimes {
		h := &handler.Handler{
			Name: name, PodAnnotations: c.PodAnnotations, ContainerAnnotations: c.ContainerAnnotations,
			PrivilegedWithoutHostDevices: c.PrivilegedWithoutHostDevices,
		}
		all = append(all, h)
		if c.Type != "oci" {
			continue
		}
		err := external.MakeArea(area)
		if err == nil {
			h.External = &external.Runtime{Name: name, Program: c.Path, Root: cfg.RuntimeRoot(name), OwnRoot: c.Root == "", Area: area}
			err = h.External.Open(context.Background())
		}
		if err != nil {
			return nil, cfg.Blame("runtimes."+name+".path", err)
		}
	}
	return handler.NewSet(cfg.DefaultRuntime, all...)
}

// checkHandlers says which programs are not there.
func checkHandlers(cfg *config.Config) error {
	var errs []error
	for name, c := range cfg.Runtimes {
		if c.Type != "oci" {
			continue
		}
		if err := external.Check(c.Path); err != nil {
			errs = append(errs, fmt.Errorf("runtimes.%s.path: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// features are what the kubelet is told of each handler.
func features(s *handler.Set, userns bool) []*runtimeapi.RuntimeHandler {
	var list []*runtimeapi.RuntimeHandler
	for _, name := range s.Names() {
		h, err := s.Get(name)
		if err != nil {
			continue // it has just named it
		}
		list = append(list, &runtimeapi.RuntimeHandler{Name: name, Features: &runtimeapi.RuntimeHandlerFeatures{
			RecursiveReadOnlyMounts: h.RecursiveReadOnly(),
			UserNamespaces:          userns && h.UserNamespaces() == nil,
		}})
	}
	return list
}

// handlerNetworks are those of handlers that have configurations of their own.
type handlerNetworks struct {
	options network.Options
	byName  map[string]*network.Manager
}

// prepare makes what the configuration wants beside what there is, and puts it
// into the settings of pods.
func (n *handlerNetworks) prepare(cfg *config.Config, set *liveSettings) (use func(), err error) {
	uses, now := []func(){}, map[string]*network.Manager{}
	defer func() {
		if err == nil {
			return
		}
		for name, m := range now {
			if n.byName[name] == nil {
				m.Close()
			}
		}
	}()
	set.pods.Networks = map[string]pod.Network{}
	for name, c := range cfg.Runtimes {
		if c.CNIConfDir == "" {
			continue
		}
		o := n.options
		o.Settings = set.network
		o.ConfDir, o.BuiltinNetwork, o.ConfTemplate = c.CNIConfDir, false, ""
		m, use := n.byName[name], func() {}
		if m == nil {
			m, err = network.New(o)
		} else {
			use, err = m.Prepare(o.Settings)
		}
		if err != nil {
			return nil, cfg.Blame("runtimes."+name+".cni_conf_dir", err)
		}
		now[name], set.pods.Networks[name], uses = m, m, append(uses, use)
	}
	return func() {
		for _, use := range uses {
			use()
		}
		for name, m := range n.byName {
			if now[name] == nil {
				m.Close()
			}
		}
		n.byName = now
	}, nil
}

func (n *handlerNetworks) close() {
	for _, m := range n.byName {
		m.Close()
	}
}
