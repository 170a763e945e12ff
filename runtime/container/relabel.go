package container

import (
	"github.com/berth-cri/berth/runtime/monitor"
	"github.com/berth-cri/berth/runtime/pod"
	"github.com/berth-cri/berth/runtime/spec"
)

// label finds the container's SELinux labels, and gives that of its files to the
// volumes that ask for it and to the pod's files. The root and the pod's
// /dev/shm are mounted with theirs. Without SELinux selinux_relabel means
// nothing: the kubelet asks for it on every node.
//
// Image volumes are shared by all pods and keep their label; they are mounted
// with the container's where there is more than one layer.
func (s *Service) label(p *pod.Pod, r *Record, mounts []spec.Source) error {
	pr := p.Record()
	var err error
	r.Labels, err = s.SELinux.Container(pr.Labels, pr.Config.GetLinux().GetSecurityContext(), r.Config.GetLinux().GetSecurityContext())
	if err != nil {
		return err
	}
	var files []string
	for i, m := range r.Config.GetMounts() {
		if m.GetSelinuxRelabel() && !spec.IsImageVolume(m) {
			files = append(files, mounts[i].Path)
		}
	}
	for _, name := range []string{pod.HostnameFile, pod.HostsFile, pod.ResolvConfFile} {
		files = append(files, p.File(name))
	}
	for _, file := range files {
		if err := s.SELinux.Relabel(file, r.Labels); err != nil {
			return err
		}
	}
	return nil
}

// labelPipes lets the container use its pipes: where it takes another domain
// with execve, the kernel asks again for every descriptor.
func (s *Service) labelPipes(c *Container) error {
	for _, pipe := range monitor.FIFOs(c.dir, c.rec.Config.GetStdin()) {
		if err := s.SELinux.Relabel(pipe, c.rec.Labels); err != nil {
			return err
		}
	}
	return nil
}
