package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// index is what readers see: the images that are ready, as one immutable value.
type index struct {
	list   []*Image // by id
	byName map[string]*Image
}

// rebuild makes the index anew; the caller holds mu.
func (s *Store) rebuild() {
	x := &index{byName: map[string]*Image{}}
	for _, id := range slices.Sorted(maps.Keys(s.images)) {
		img := s.images[id]
		if !s.ready(img) {
			continue
		}
		size := img.blobBytes
		for _, l := range img.Layers {
			size += uint64(s.layers[l].Size)
		}
		if size != img.Size { // of a new image, or of a layer unpacked anew
			c := *img
			c.Size = size
			img = &c
			s.images[id] = img
		}
		x.list = append(x.list, img)
		for _, name := range img.Names() {
			x.byName[name] = img
		}
	}
	s.now.Store(x)
}

// ready reports whether an image has all its layers; the caller holds mu.
func (s *Store) ready(img *Image) bool {
	for _, l := range img.Layers {
		if _, whole := s.layers[l]; !whole {
			return false
		}
	}
	return true
}

func (s *Store) reportUnready() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, img := range s.images {
		if !s.ready(img) {
			s.log.Error("image is not listed until it is pulled again: a layer is missing or damaged", "image", img.ID, "names", img.Names())
		}
	}
}

// Images returns the images in the order of their ids. The slice is shared:
// it is to be read only.
func (s *Store) Images() []*Image { return s.now.Load().list }

// Lookup finds an image by a full name as the record has it
// ("docker.io/library/busybox:latest", "…@sha256:…"), by its id with or without
// "sha256:", or by a prefix of the id that only one image has. Names go first:
// "cafe" may be both.
func (s *Store) Lookup(nameOrID string) (*Image, error) {
	x := s.now.Load()
	if img := x.byName[nameOrID]; img != nil {
		return img, nil
	}
	prefix := strings.TrimPrefix(nameOrID, "sha256:")
	if len(prefix) > 64 || strings.Trim(prefix, "0123456789abcdef") != "" {
		prefix = ""
	}
	if nameOrID == "" {
		return nil, fmt.Errorf("image name is empty: %w", errdefs.ErrInvalidArgument)
	}
	if prefix == "" {
		return nil, fmt.Errorf("image %q: %w", nameOrID, errdefs.ErrNotFound)
	}
	prefix = "sha256:" + prefix
	at, _ := slices.BinarySearchFunc(x.list, prefix, func(i *Image, id string) int { return strings.Compare(i.ID, id) })
	rest := x.list[at:]
	switch {
	case len(rest) == 0 || !strings.HasPrefix(rest[0].ID, prefix):
		return nil, fmt.Errorf("image %q: %w", nameOrID, errdefs.ErrNotFound)
	case len(rest) > 1 && strings.HasPrefix(rest[1].ID, prefix):
		return nil, fmt.Errorf("image %q: the id prefix is ambiguous: %w", nameOrID, errdefs.ErrInvalidArgument)
	}
	return rest[0], nil
}
