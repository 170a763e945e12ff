package imageservice

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/berth-cri/berth/imageservice/reference"
	"github.com/berth-cri/berth/imageservice/store"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// pins are patterns of full names.
type pins []string

// parsePins makes full names of short ones. A pattern is taken as it is.
func parsePins(names []string) (pins, error) {
	var p pins
	for _, name := range names {
		if strings.ContainsAny(name, `*?[\`) {
			if _, err := path.Match(name, ""); err != nil {
				return nil, fmt.Errorf("pinned image %q: %v: %w", name, err, errdefs.ErrInvalidArgument)
			}
			p = append(p, name)
			continue
		}
		ref, err := reference.Parse(name)
		if err != nil {
			return nil, fmt.Errorf("pinned image: %w", err)
		}
		p = append(p, ref.String())
	}
	return p, nil
}

func (p pins) match(img *store.Image) bool {
	return slices.ContainsFunc(img.Names(), func(name string) bool {
		return slices.ContainsFunc(p, func(pattern string) bool {
			ok, _ := path.Match(pattern, name)
			return ok || pattern == name
		})
	})
}

// mark returns the image with Pinned as the configuration says now.
func (p pins) mark(img *store.Image) *store.Image {
	pinned := p.match(img)
	if pinned == img.Pinned {
		return img
	}
	c := *img
	c.Pinned = pinned
	return &c
}

func (p pins) markAll(list []*store.Image) []*store.Image {
	if !slices.ContainsFunc(list, func(i *store.Image) bool { return p.match(i) != i.Pinned }) {
		return list
	}
	out := make([]*store.Image, len(list))
	for i, img := range list {
		out[i] = p.mark(img)
	}
	return out
}

// digestID reports whether s is meant as an image id: "sha256:" and hex digits.
func digestID(s string) (string, bool) {
	if !strings.HasPrefix(s, digest.SHA256.String()+":") {
		return "", false
	}
	return reference.IDPrefix(s)
}
