package reference

import (
	"fmt"

	"github.com/containerd/errdefs"
	docker "github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// maxLength is a repository (255), a tag (128) and a sha512 digest, with room
// for the registry. The grammar is a set of regular expressions, so what is
// longer is refused before it reaches them.
const maxLength = 1024

// DockerHub is the registry of a name that has none.
const DockerHub = "docker.io"

// Reference is the normalised name of an image.
type Reference struct {
	Registry   string        // "docker.io", "registry.k8s.io", "localhost:5000"
	Repository string        // "library/busybox"
	Tag        string        // empty when Digest is set
	Digest     digest.Digest // empty when Tag is set
}

// Parse normalises a name: "busybox" is docker.io/library/busybox:latest.
func Parse(s string) (Reference, error) {
	if len(s) > maxLength {
		return Reference{}, fmt.Errorf("image name of %d bytes, at most %d are allowed: %w", len(s), maxLength, errdefs.ErrInvalidArgument)
	}
	named, err := docker.ParseDockerRef(s)
	if err != nil {
		return Reference{}, fmt.Errorf("image name %q: %v: %w", s, err, errdefs.ErrInvalidArgument)
	}
	r := Reference{Registry: docker.Domain(named), Repository: docker.Path(named)}
	if r.Registry == "" || r.Repository == "" {
		return Reference{}, fmt.Errorf("image name %q: registry or repository is missing: %w", s, errdefs.ErrInvalidArgument)
	}
	switch n := named.(type) {
	case docker.Canonical:
		r.Digest = n.Digest()
	case docker.Tagged:
		r.Tag = n.Tag()
	}
	if r.Digest != "" && r.Digest.Algorithm() != digest.SHA256 {
		return Reference{}, fmt.Errorf("image name %q: only sha256 digests are supported: %w", s, errdefs.ErrInvalidArgument)
	}
	return r, nil
}

// Name is the reference without tag and digest: "docker.io/library/busybox".
func (r Reference) Name() string { return r.Registry + "/" + r.Repository }

// Object is what a registry is asked for: the digest or the tag.
func (r Reference) Object() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return r.Tag
}

// String is the full name, which Parse accepts.
func (r Reference) String() string {
	if r.Digest != "" {
		return r.RepoDigest(r.Digest)
	}
	return r.Name() + ":" + r.Tag
}

// RepoTag is the name under CRI's Image.repo_tags, empty for a reference by digest.
func (r Reference) RepoTag() string {
	if r.Tag == "" {
		return ""
	}
	return r.String()
}

// RepoDigest is the name under CRI's Image.repo_digests for what was found.
func (r Reference) RepoDigest(d digest.Digest) string { return r.Name() + "@" + d.String() }
