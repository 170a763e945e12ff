package store

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berth-cri/berth/atomicfile"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is one image, immutable once it comes out of the store.
type Image struct {
	ID          string          `json:"id"` // "sha256:…", the digest of the config
	RepoTags    []string        `json:"repoTags,omitempty"`
	RepoDigests []string        `json:"repoDigests,omitempty"`
	Manifest    digest.Digest   `json:"manifest"`
	Layers      []digest.Digest `json:"layers"` // diff ids, base first
	Pinned      bool            `json:"pinned,omitempty"`
	PulledAt    time.Time       `json:"pulledAt"` // the last time

	Size   uint64        `json:"-"` // layers as they lie on the disk, manifest and config
	Config ocispec.Image `json:"-"` // what the config blob says

	blobBytes uint64 // of manifest and config
}

// record is images/<hex>.json.
type record struct {
	Version int `json:"version"`
	Image
}

const recordVersion = 1

// Names are all names of the image: tags and digests.
func (i *Image) Names() []string { return slices.Concat(i.RepoTags, i.RepoDigests) }

func (s *Store) recordPath(id string) string {
	return filepath.Join(s.imagesDir(), strings.TrimPrefix(id, "sha256:")+".json")
}

func (s *Store) writeRecord(img *Image) error {
	return atomicfile.WriteJSONDurable(s.recordPath(img.ID), record{Version: recordVersion, Image: *img})
}

// loadImages reads all records. One that cannot be used is set aside: the next
// pull of its image writes a new one.
func (s *Store) loadImages() error {
	entries, err := os.ReadDir(s.imagesDir())
	if err != nil {
		return err
	}
	var found []*Image
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || !strings.HasSuffix(name, ".json") {
			continue
		}
		img, err := s.readImage(name)
		if err != nil {
			s.log.Error("image record is set aside", "record", name, "error", err)
			if err := os.Rename(filepath.Join(s.imagesDir(), name), filepath.Join(s.brokenDir(), name)); err != nil {
				s.log.Error("image record stays where it is", "record", name, "error", err)
			}
			continue
		}
		found = append(found, img)
	}
	// A crash between the two writes of a tag that moves leaves it with both
	// images: the later pull has it.
	slices.SortFunc(found, func(a, b *Image) int { return b.PulledAt.Compare(a.PulledAt) })
	taken := map[string]bool{}
	for _, img := range found {
		kept := img.without(func(name string) bool { return taken[name] })
		if kept != img {
			if err := s.writeRecord(kept); err != nil {
				s.log.Error("image record keeps a tag that has moved", "image", img.ID, "error", err)
			}
		}
		for _, name := range kept.Names() {
			taken[name] = true
		}
		s.images[kept.ID] = kept
	}
	return nil
}

func (s *Store) readImage(name string) (*Image, error) {
	var r record
	if err := atomicfile.ReadJSON(filepath.Join(s.imagesDir(), name), &r); err != nil {
		return nil, err
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("record version %d: %w", r.Version, errdefs.ErrNotImplemented)
	}
	if name != strings.TrimPrefix(r.ID, "sha256:")+".json" {
		return nil, fmt.Errorf("record of image %q under a foreign name: %w", r.ID, errdefs.ErrDataLoss)
	}
	config, err := s.readBlob(digest.Digest(r.ID))
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	manifest, err := s.readBlob(r.Manifest)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return r.Image.complete(manifest, config)
}

// complete checks an image against its config and fills in what the config says.
func (i Image) complete(manifest, config []byte) (*Image, error) {
	if got := digest.FromBytes(config); got.String() != i.ID {
		return nil, fmt.Errorf("the config's digest is %s, not the image's id %s: %w", got, i.ID, errdefs.ErrInvalidArgument)
	}
	if got := digest.FromBytes(manifest); got != i.Manifest {
		return nil, fmt.Errorf("the manifest's digest is %s, not %s: %w", got, i.Manifest, errdefs.ErrInvalidArgument)
	}
	if err := json.Unmarshal(config, &i.Config); err != nil {
		return nil, fmt.Errorf("parse config of %s: %v: %w", i.ID, err, errdefs.ErrInvalidArgument)
	}
	if !slices.Equal(i.Layers, i.Config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("the layers %v are not those of the config, %v: %w", i.Layers, i.Config.RootFS.DiffIDs, errdefs.ErrInvalidArgument)
	}
	for _, l := range i.Layers {
		if err := checkDigest(l); err != nil {
			return nil, err
		}
	}
	i.blobBytes = uint64(len(config) + len(manifest))
	return &i, nil
}

// without returns the image without some of its names, itself when it has none
// of them.
func (i *Image) without(drop func(name string) bool) *Image {
	if !slices.ContainsFunc(i.Names(), drop) {
		return i
	}
	c := *i
	c.RepoTags = slices.DeleteFunc(slices.Clone(i.RepoTags), drop)
	c.RepoDigests = slices.DeleteFunc(slices.Clone(i.RepoDigests), drop)
	return &c
}

// checkDigest refuses what has no place in the layout (and anything that could
// be a path).
func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %q: only sha256 is supported: %w", d, errdefs.ErrInvalidArgument)
	}
	return nil
}
