package spec

import (
	"maps"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// annotations tell external runtimes (Kata, gVisor) which container of which pod
// this is, under the names that containerd gave them.
func annotations(in *Input, s *specs.Spec) error {
	pod := in.Pod.Config.GetMetadata()
	s.Annotations = map[string]string{}
	maps.Copy(s.Annotations, in.Annotations)
	maps.Copy(s.Annotations, map[string]string{ // over those: nobody pretends to be another pod
		"io.kubernetes.cri.container-type":    "container",
		"io.kubernetes.cri.container-name":    in.Config.GetMetadata().GetName(),
		"io.kubernetes.cri.image-name":        in.ImageName,
		"io.kubernetes.cri.sandbox-id":        in.Pod.ID,
		"io.kubernetes.cri.sandbox-name":      pod.GetName(),
		"io.kubernetes.cri.sandbox-namespace": pod.GetNamespace(),
		"io.kubernetes.cri.sandbox-uid":       pod.GetUid(),
	})
	return nil
}
