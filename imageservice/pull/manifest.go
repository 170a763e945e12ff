package pull

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// document is what tells the kinds of manifests apart.
type document struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Manifests     json.RawMessage `json:"manifests"`
	Config        json.RawMessage `json:"config"`
	Layers        json.RawMessage `json:"layers"`
}

// parseManifest returns the index or the manifest that the body is. What a
// registry says about the type matters little: the content has a digest, the
// header has none.
func parseManifest(mediaType string, body []byte) (*ocispec.Index, *ocispec.Manifest, error) {
	var d document
	if err := json.Unmarshal(body, &d); err != nil {
		return nil, nil, fmt.Errorf("manifest of type %q is not JSON: %v: %w", mediaType, err, errdefs.ErrInvalidArgument)
	}
	if d.MediaType != "" {
		mediaType = d.MediaType
	}
	isIndex, isImage := d.Manifests != nil, d.Config != nil || d.Layers != nil
	switch {
	case d.SchemaVersion == 1 || strings.HasPrefix(mediaType, "application/vnd.docker.distribution.manifest.v1+"):
		return nil, nil, fmt.Errorf("the image is in Docker's manifest schema 1, which is not supported since it cannot be verified; "+
			"pushed again by a newer client it becomes schema 2: %w", errdefs.ErrNotImplemented)
	case isIndex && isImage:
		// CVE-2021-41190: one reader would see an index, another an image.
		return nil, nil, fmt.Errorf("the manifest is an index and an image at once: %w", errdefs.ErrInvalidArgument)
	case isIndex:
		var idx ocispec.Index
		if err := json.Unmarshal(body, &idx); err != nil {
			return nil, nil, fmt.Errorf("parse index: %v: %w", err, errdefs.ErrInvalidArgument)
		}
		return &idx, nil, nil
	case isImage:
		var m ocispec.Manifest
		if err := json.Unmarshal(body, &m); err != nil {
			return nil, nil, fmt.Errorf("parse manifest: %v: %w", err, errdefs.ErrInvalidArgument)
		}
		return nil, &m, checkManifest(m)
	}
	return nil, nil, fmt.Errorf("manifest of type %q is neither an image nor an index: %w", mediaType, errdefs.ErrNotImplemented)
}

// configTypes are those of container images; the last one is what some old
// builders wrote.
var configTypes = []string{ocispec.MediaTypeImageConfig, "application/vnd.docker.container.image.v1+json", "application/octet-stream"}

func checkManifest(m ocispec.Manifest) error {
	if !slices.Contains(configTypes, m.Config.MediaType) {
		return fmt.Errorf("not a container image but an artifact: its config is of type %q: %w", m.Config.MediaType, errdefs.ErrNotImplemented)
	}
	if err := checkDescriptor("config", m.Config); err != nil {
		return err
	}
	for i, l := range m.Layers {
		if err := checkDescriptor(fmt.Sprintf("layer %d", i+1), l); err != nil {
			return err
		}
	}
	return nil
}

func checkDescriptor(what string, d ocispec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil || d.Digest.Algorithm() != digest.SHA256 {
		return fmt.Errorf("%s has the digest %.100q, only sha256 is supported: %w", what, d.Digest, errdefs.ErrInvalidArgument)
	}
	if d.Size < 0 {
		return fmt.Errorf("%s has the size %d: %w", what, d.Size, errdefs.ErrInvalidArgument)
	}
	return nil
}

// choose lists the manifests of an index to try, the best first. Entries that
// name no platform are tried when no other fits: their config names it.
func choose(idx *ocispec.Index, m platforms.MatchComparer) ([]ocispec.Descriptor, error) {
	var fit, unnamed []ocispec.Descriptor
	var have []string
	for _, d := range idx.Manifests {
		switch {
		case d.Annotations["vnd.docker.reference.type"] != "": // BuildKit's attestations
		case d.Platform == nil || d.Platform.OS == "" && d.Platform.Architecture == "":
			d.Platform = nil
			unnamed = append(unnamed, d)
		case m.Match(*d.Platform):
			fit = append(fit, d)
		default:
			have = append(have, platforms.Format(*d.Platform))
		}
	}
	slices.SortStableFunc(fit, func(a, b ocispec.Descriptor) int {
		switch {
		case m.Less(*a.Platform, *b.Platform):
			return -1
		case m.Less(*b.Platform, *a.Platform):
			return 1
		}
		return 0
	})
	if len(fit) == 0 {
		fit = unnamed
	}
	for _, d := range fit {
		if err := checkDescriptor("manifest", d); err != nil {
			return nil, err
		}
	}
	if len(fit) == 0 {
		return nil, noPlatform(have)
	}
	return fit, nil
}

func noPlatform(have []string) error {
	const most = 20
	slices.Sort(have)
	have = slices.Compact(have)
	if len(have) > most {
		have = append(have[:most], "…")
	}
	return fmt.Errorf("no image for %s, there are: %s: %w", platforms.Format(platforms.DefaultSpec()), strings.Join(have, ", "), errdefs.ErrNotFound)
}

// parseConfig reads the configuration and holds it against the manifest.
func parseConfig(body []byte, m *ocispec.Manifest) (ocispec.Image, error) {
	var c ocispec.Image
	if err := json.Unmarshal(body, &c); err != nil {
		return c, fmt.Errorf("parse config: %v: %w", err, errdefs.ErrInvalidArgument)
	}
	if c.OS == "windows" {
		return c, fmt.Errorf("the image is for Windows: %w", errdefs.ErrNotImplemented)
	}
	if t := c.RootFS.Type; t != "layers" && (t != "" || len(m.Layers) > 0) {
		return c, fmt.Errorf("config: rootfs of type %.40q: %w", t, errdefs.ErrNotImplemented)
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return c, fmt.Errorf("the config names %d layers, the manifest %d: %w", len(c.RootFS.DiffIDs), len(m.Layers), errdefs.ErrInvalidArgument)
	}
	for i, d := range c.RootFS.DiffIDs {
		if err := checkDescriptor(fmt.Sprintf("config: diff id %d", i+1), ocispec.Descriptor{Digest: d}); err != nil {
			return c, err
		}
	}
	return c, nil
}
