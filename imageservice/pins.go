package imageservice

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berth-cri/berth/imageservice/reference"
	"github.com/berth-cri/berth/imageservice/store"
	"github.com/containerd/errdefs"
)

// pins are the images that stay: full names, and prefixes of them.
type pins struct {
	names    []string
	prefixes []string
}

// parsePins makes full names of short ones; a prefix is taken as it is.
func parsePins(patterns []string) (pins, error) {
	var p pins
	for _, s := range patterns {
		prefix, isPrefix := strings.CutSuffix(s, "*")
		switch {
		case strings.Contains(prefix, "*"), prefix == "":
			return p, fmt.Errorf("pinned image %q: neither a name nor a prefix that ends in *: %w", s, errdefs.ErrInvalidArgument)
		case isPrefix:
			p.prefixes = append(p.prefixes, prefix)
		default:
			ref, err := reference.Parse(s)
			if err != nil {
				return p, fmt.Errorf("pinned image: %w", err)
			}
			p.names = append(p.names, ref.String())
		}
	}
	return p, nil
}

func (p pins) match(img *store.Image) bool {
	return slices.ContainsFunc(img.Names(), func(name string) bool {
		return slices.Contains(p.names, name) ||
			slices.ContainsFunc(p.prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
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
