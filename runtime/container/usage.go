package container

import "github.com/containerd/errdefs"

// FsUsage adds up the writable layers of all containers, in bytes and inodes. A
// container that is removed meanwhile counts nothing.
func (s *Service) FsUsage() (bytes, inodes uint64, err error) {
	for _, c := range s.List() {
		b, i, err := s.Rootfs.Usage(c.rec.ID)
		if err != nil && !errdefs.IsNotFound(err) {
			return 0, 0, err
		}
		bytes, inodes = bytes+b, inodes+i
	}
	return bytes, inodes, nil
}
