package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-cri/berth/imageservice"
	"github.com/berth-cri/berth/imageservice/store"
	"github.com/berth-cri/berth/runtime/container"
	"github.com/berth-cri/berth/runtime/pod"
	"github.com/opencontainers/go-digest"
)

// Server answers.
type Server struct {
	Images     *imageservice.Service
	Containers *container.Service
	Pods       *pod.Service
}

func (s *Server) diskUsage(ctx context.Context, _ *DiskUsageRequest) (*DiskUsage, error) {
	images, layers := s.Images.List(), s.Images.Layers()
	containers := s.Containers.List()
	d := &DiskUsage{Root: s.Images.FsUsage().Mountpoint, Images: []ImageUsage{}, Containers: []ContainerUsage{}}
	made := map[string]int{}
	held := map[digest.Digest]bool{} // by containers
	for _, c := range containers {
		r := c.Record()
		made[r.ImageID]++
		for _, l := range append(r.Layers[:len(r.Layers):len(r.Layers)], r.Volumes...) {
			held[l] = true
		}
	}
	users := usersOf(images)
	for _, i := range images {
		u := ImageUsage{ID: i.ID, Names: i.Names(), Layers: len(i.Layers), Containers: made[i.ID], Pinned: i.Pinned}
		for l := range setOf(i.Layers) {
			if users[l] > 1 {
				u.Shared += layers[l].Size
			} else {
				u.Unique += layers[l].Size
			}
		}
		// What is not layers: manifest and config.
		u.Unique += max(int64(i.Size)-u.Shared-u.Unique, 0)
		u.Size = u.Shared + u.Unique
		d.Images = append(d.Images, u)
	}
	d.Layers = layerUsage(images, layers, users, held)
	for _, c := range containers {
		d.Containers = append(d.Containers, s.containerUsage(ctx, c))
	}
	return d, ctx.Err()
}

func setOf(layers []digest.Digest) map[digest.Digest]bool {
	set := make(map[digest.Digest]bool, len(layers))
	for _, l := range layers {
		set[l] = true
	}
	return set
}

// usersOf counts the images of each layer.
func usersOf(images []*store.Image) map[digest.Digest]int {
	users := map[digest.Digest]int{}
	for _, i := range images {
		for l := range setOf(i.Layers) {
			users[l]++
		}
	}
	return users
}

func layerUsage(images []*store.Image, layers map[digest.Digest]store.Layer, users map[digest.Digest]int, held map[digest.Digest]bool) LayerUsage {
	pinned := map[digest.Digest]bool{}
	for _, i := range images {
		if i.Pinned {
			for _, l := range i.Layers {
				pinned[l] = true
			}
		}
	}
	u := LayerUsage{Count: len(layers)}
	for d, l := range layers {
		u.Size += l.Size
		if users[d] == 0 {
			u.Unused++
		}
		if !held[d] && !pinned[d] {
			u.Reclaimable += l.Size
		}
	}
	return u
}

func (s *Server) containerUsage(ctx context.Context, c *container.Container) ContainerUsage {
	r := c.Record()
	u := ContainerUsage{
		ID: r.ID, Name: r.Config.GetMetadata().GetName(), Writable: -1, Inodes: -1, Log: logBytes(r.LogPath),
		State: strings.ToLower(strings.TrimPrefix(c.Status().State.CRI().String(), "CONTAINER_")),
	}
	if p, err := s.Pods.Get(r.Pod); err == nil {
		m := p.Record().Config.GetMetadata()
		u.Pod = m.GetNamespace() + "/" + m.GetName()
	}
	if w, err := s.Containers.Written(ctx, c); err == nil {
		u.Writable, u.Inodes = int64(w.Bytes), int64(w.Inodes)
	}
	return u
}

// logBytes is what a log takes with its rotations, which lie beside it under
// longer names (the kubelet's are PATH.TIME and PATH.TIME.gz).
func logBytes(path string) (n int64) {
	if path == "" {
		return 0
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return -1
	}
	base := filepath.Base(path)
	for _, e := range entries {
		if name := e.Name(); name != base && !strings.HasPrefix(name, base+".") {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
	}
	return n
}
