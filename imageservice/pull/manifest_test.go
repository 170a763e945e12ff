package pull

import (
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var someDigest = digest.FromString("x")

func TestParseManifest(t *testing.T) {
	config := fmt.Sprintf(`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":2}`, someDigest)
	for name, c := range map[string]struct {
		header, body string
		want         string // index, image, or the text of the error
		kind         func(error) bool
	}{
		"an OCI image":                    {ocispec.MediaTypeImageManifest, `{"schemaVersion":2,` + config + `,"layers":[]}`, "image", nil},
		"a header that is wrong":          {ocispec.MediaTypeImageIndex, `{"schemaVersion":2,` + config + `,"layers":[]}`, "image", nil},
		"no header":                       {"", `{"manifests":[]}`, "index", nil},
		"an index":                        {ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[]}`, "index", nil},
		"both at once":                    {"", `{"manifests":[],` + config + `}`, "at once", errdefs.IsInvalidArgument},
		"schema 1 by its version":         {"application/json", `{"schemaVersion":1,"fsLayers":[]}`, "schema 1", errdefs.IsNotImplemented},
		"schema 1 by its type":            {"application/vnd.docker.distribution.manifest.v1+prettyjws", `{}`, "schema 1", errdefs.IsNotImplemented},
		"neither":                         {"application/x", `{}`, `"application/x" is neither`, errdefs.IsNotImplemented},
		"no JSON":                         {"", `<html>`, "not JSON", errdefs.IsInvalidArgument},
		"JSON and more":                   {"", `{"manifests":[]} x`, "not JSON", errdefs.IsInvalidArgument},
		"an artifact":                     {"", `{"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"` + someDigest.String() + `"},"layers":[]}`, "an artifact", errdefs.IsNotImplemented},
		"no config":                       {"", `{"layers":[]}`, "an artifact", errdefs.IsNotImplemented},
		"a config of another algorithm":   {"", strings.Replace(`{`+config+`}`, "sha256:", "sha512:"+strings.Repeat("0", 64), 1), "only sha256", errdefs.IsInvalidArgument},
		"a layer with a path as digest":   {"", `{` + config + `,"layers":[{"digest":"sha256:../../x"}]}`, "layer 1", errdefs.IsInvalidArgument},
		"a layer with a negative size":    {"", `{` + config + `,"layers":[{"digest":"` + someDigest.String() + `","size":-1}]}`, "size -1", errdefs.IsInvalidArgument},
		"a layers field of another shape": {"", `{` + config + `,"layers":{}}`, "parse manifest", errdefs.IsInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			idx, m, err := parseManifest(c.header, []byte(c.body))
			got := ""
			switch {
			case err != nil:
				got = err.Error()
			case idx != nil:
				got = "index"
			case m != nil:
				got = "image"
			}
			if !strings.Contains(got, c.want) || (err != nil) != (c.kind != nil) || err != nil && !c.kind(err) {
				t.Errorf("%s", got)
			}
		})
	}
}

func TestChoose(t *testing.T) {
	entry := func(name, platform string) ocispec.Descriptor {
		d := ocispec.Descriptor{Digest: digest.FromString(name), MediaType: name}
		if platform != "" {
			p := platforms.MustParse(platform)
			d.Platform = &p
		}
		return d
	}
	attestation := entry("attestation", "unknown/unknown")
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	bad := entry("bad", "linux/amd64")
	bad.Digest = "sha256:short"
	for name, c := range map[string]struct {
		machine string
		entries []ocispec.Descriptor
		want    string // media types, or the error
	}{
		"the machine's":                   {"linux/amd64", []ocispec.Descriptor{entry("arm", "linux/arm64"), entry("amd", "linux/amd64")}, "[amd]"},
		"the best variant first":          {"linux/arm/v7", []ocispec.Descriptor{entry("v6", "linux/arm/v6"), entry("v7", "linux/arm/v7"), entry("v5", "linux/arm/v5")}, "[v7 v6 v5]"},
		"the first of equals":             {"linux/amd64", []ocispec.Descriptor{entry("one", "linux/amd64"), entry("two", "linux/amd64")}, "[one two]"},
		"without platform when none fits": {"linux/amd64", []ocispec.Descriptor{entry("arm", "linux/arm64"), entry("none", "")}, "[none]"},
		"attestations are no images":      {"linux/amd64", []ocispec.Descriptor{attestation, entry("amd", "linux/amd64")}, "[amd]"},
		"none":                            {"linux/amd64", []ocispec.Descriptor{entry("arm", "linux/arm64"), entry("s390", "linux/s390x"), attestation}, "there are: linux/arm64, linux/s390x"},
		"an empty index":                  {"linux/amd64", nil, "there are: "},
		"a digest that is none":           {"linux/amd64", []ocispec.Descriptor{bad}, "only sha256"},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := choose(&ocispec.Index{Manifests: c.entries}, platforms.Only(platforms.MustParse(c.machine)))
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				var types []string
				for _, d := range list {
					types = append(types, d.MediaType)
				}
				got = fmt.Sprint(types)
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestParseConfig(t *testing.T) {
	one := &ocispec.Manifest{Layers: []ocispec.Descriptor{{}}}
	for name, c := range map[string]struct {
		body, want string
		m          *ocispec.Manifest
	}{
		"right":                {`{"rootfs":{"type":"layers","diff_ids":["` + someDigest.String() + `"]}}`, "", one},
		"no layers at all":     {`{}`, "", &ocispec.Manifest{}},
		"no JSON":              {`x`, "parse config", one},
		"too few":              {`{"rootfs":{"type":"layers"}}`, "names 0 layers, the manifest 1", one},
		"a diff id, a path":    {`{"rootfs":{"type":"layers","diff_ids":["../x"]}}`, "diff id 1", one},
		"another sort of root": {`{"rootfs":{"type":"disk"}}`, `rootfs of type "disk"`, one},
		"Windows":              {`{"os":"windows","rootfs":{"type":"layers","diff_ids":["` + someDigest.String() + `"]}}`, "Windows", one},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseConfig([]byte(c.body), c.m)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestStates(t *testing.T) {
	states := []State{Resolving, Reading, Unpacking, Recording, Done, Failed}
	events := []Event{Resolved, Known, Read, Unpacked, Recorded, Fail}
	want := map[State]map[Event]State{
		Resolving: {Resolved: Reading, Known: Done, Fail: Failed},
		Reading:   {Read: Unpacking, Fail: Failed},
		Unpacking: {Unpacked: Recording, Fail: Failed},
		Recording: {Recorded: Done, Fail: Failed},
	}
	for _, s := range states {
		for _, e := range events {
			got, err := s.Next(e)
			if to, ok := want[s][e]; ok {
				if got != to || err != nil {
					t.Errorf("%s, %s: %s %v", s, e, got, err)
				}
			} else if got != s || !errdefs.IsFailedPrecondition(err) {
				t.Errorf("%s, %s: %s %v", s, e, got, err)
			}
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add("", []byte(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"`+someDigest.String()+`","size":2},"layers":[]}`))
	f.Add("", []byte(`{"manifests":[{"digest":"`+someDigest.String()+`","platform":{"os":"linux","architecture":"amd64"}},{"digest":"x"}]}`))
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		idx, m, err := parseManifest(header, body)
		switch {
		case err != nil:
		case idx != nil:
			list, err := choose(idx, platforms.Default())
			if err == nil && len(list) == 0 {
				t.Fatal("nothing chosen, and no error")
			}
			for _, d := range list {
				if d.Digest.Validate() != nil {
					t.Fatalf("%q", d.Digest)
				}
			}
		case m == nil:
			t.Fatal("nothing parsed, and no error")
		default:
			for _, d := range append(m.Layers, m.Config) {
				if d.Digest.Validate() != nil || d.Size < 0 {
					t.Fatalf("%+v", d)
				}
			}
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"rootfs":{"type":"layers","diff_ids":["` + someDigest.String() + `"]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := parseConfig(body, &ocispec.Manifest{Layers: []ocispec.Descriptor{{}}})
		if err == nil && (len(c.RootFS.DiffIDs) != 1 || c.RootFS.DiffIDs[0].Validate() != nil) {
			t.Fatalf("%+v", c.RootFS)
		}
	})
}
