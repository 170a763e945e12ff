package reference

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

const sha = "sha256:9ae97d36d26566ff84e8893c64a6dc4fe8ca6d1144bf5b87b2b85a32def253c7"

func TestParse(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"a short name is an official image of Docker Hub": {"busybox", "docker.io/library/busybox:latest"},
		"a short name with a tag":                         {"busybox:1.36", "docker.io/library/busybox:1.36"},
		"a user's repository on Docker Hub":               {"grafana/loki", "docker.io/grafana/loki:latest"},
		"Docker Hub written out":                          {"docker.io/busybox", "docker.io/library/busybox:latest"},
		"Docker Hub's old name":                           {"index.docker.io/library/busybox", "docker.io/library/busybox:latest"},
		"another registry":                                {"registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"},
		"a deep repository":                               {"ghcr.io/a/b/c/d:v1", "ghcr.io/a/b/c/d:v1"},
		"a registry with a port":                          {"localhost:5000/x", "localhost:5000/x:latest"},
		"localhost without a port":                        {"localhost/x:1", "localhost/x:1"},
		"an IPv4 registry":                                {"127.0.0.1:5000/x:1", "127.0.0.1:5000/x:1"},
		"an IPv6 registry":                                {"[::1]:5000/x:1", "[::1]:5000/x:1"},
		"a digest":                                        {"busybox@" + sha, "docker.io/library/busybox@" + sha},
		"a tag and a digest: the digest counts":           {"quay.io/a/b:v1@" + sha, "quay.io/a/b@" + sha},
		"a first part in capitals is a registry":          {"Registry/x:1", "Registry/x:1"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Parse(c.in)
			if err != nil {
				t.Fatal(err)
			}
			if r.String() != c.want {
				t.Errorf("got %s, want %s", r, c.want)
			}
			if again, err := Parse(r.String()); err != nil || again != r {
				t.Errorf("%s parsed again is %v, %v", r, again, err)
			}
			if (r.Tag == "") == (r.Digest == "") {
				t.Errorf("a tag or a digest, not %q and %q", r.Tag, r.Digest)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":                       "",
		"a space":                       "busy box",
		"capitals in the repository":    "docker.io/Library/busybox",
		"an empty tag":                  "busybox:",
		"an empty digest":               "busybox@",
		"a digest that is too short":    "busybox@sha256:abcd",
		"a digest of another algorithm": "busybox@sha512:" + strings.Repeat("ab", 64),
		"an unknown algorithm":          "busybox@md5:" + strings.Repeat("ab", 16),
		"a path that climbs":            "registry.k8s.io/../etc",
		"a scheme":                      "https://registry.k8s.io/pause",
		"an image id":                   strings.TrimPrefix(sha, "sha256:"),
		"a long tag":                    "busybox:" + strings.Repeat("a", 129),
		"a long repository":             strings.Repeat("a", 300),
		"megabytes":                     strings.Repeat("a/", 1<<20),
		"a newline":                     "busybox\n",
		"a zero byte":                   "busybox\x00",
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := Parse(in); !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v, %v", r, err)
			} else if len(err.Error()) > 2*maxLength+200 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestNames(t *testing.T) {
	byTag, _ := Parse("busybox:1")
	byDigest, _ := Parse("busybox@" + sha)
	if byTag.RepoTag() != "docker.io/library/busybox:1" || byTag.Object() != "1" {
		t.Errorf("%q %q", byTag.RepoTag(), byTag.Object())
	}
	if byDigest.RepoTag() != "" || byDigest.Object() != sha {
		t.Errorf("%q %q", byDigest.RepoTag(), byDigest.Object())
	}
	if got := byTag.RepoDigest(sha); got != "docker.io/library/busybox@"+sha {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"busybox", "a/b:c@" + sha, "[::1]:5000/x", "localhost:5000/x:1", "x@" + sha, "\x00", "A/b", "..", "a//b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("an error without kind: %v", err)
			}
			return
		}
		again, err := Parse(r.String())
		if err != nil || again != r {
			t.Fatalf("%q -> %v -> %v, %v", s, r, again, err)
		}
		if strings.Contains(r.Repository, "..") || strings.HasPrefix(r.Repository, "/") || strings.ContainsAny(r.Registry, "/ \\") {
			t.Fatalf("%q -> %+v leaves its directory", s, r)
		}
	})
}
