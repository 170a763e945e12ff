package spec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// outcome is what one step makes of an input: a line, or a kind of error.
type outcome struct {
	in   Input
	want string
	kind func(error) bool
}

func tryEach(t *testing.T, show func(*specs.Spec) any, cases map[string]outcome) {
	t.Helper()
	for situation, c := range cases {
		t.Run(situation, func(t *testing.T) {
			s, err := Build(c.in)
			if c.kind != nil {
				if err == nil || !c.kind(err) || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got error %v, want another kind or %q in it", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(show(s)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func runs(entrypoint, cmd, command, args []string) func(*Input) {
	return func(in *Input) {
		in.Image.Entrypoint, in.Image.Cmd, in.Config.Command, in.Config.Args = entrypoint, cmd, command, args
	}
}

func TestHardeningAndAnnotations(t *testing.T) {
	paths := secure(func(s *security) { s.MaskedPaths, s.ReadonlyPaths = []string{"/proc/x"}, []string{"/proc/y"} })
	tryEach(t, func(s *specs.Spec) any {
		return fmt.Sprint(s.Linux.MaskedPaths, s.Linux.ReadonlyPaths, s.Root.Readonly, s.Process.NoNewPrivileges)
	}, map[string]outcome{
		"no lists":               {in: on(), want: "[] [] false false"},
		"as listed":              {in: on(paths), want: "[/proc/x] [/proc/y] false false"},
		"privileged sees all":    {in: on(paths, privileged), want: "[] [] false false"},
		"read-only root":         {in: on(secure(func(s *security) { s.ReadonlyRootfs = true })), want: "[] [] true false"},
		"no new privileges":      {in: on(secure(func(s *security) { s.NoNewPrivs = true })), want: "[] [] false true"},
		"a relative masked path": {in: on(secure(func(s *security) { s.MaskedPaths = []string{"proc"} })), kind: errdefs.IsInvalidArgument, want: "masked_paths[0]"},
	})
	tryEach(t, func(s *specs.Spec) any {
		return s.Annotations["io.kubernetes.cri.sandbox-id"] + s.Linux.CgroupsPath + s.Root.Path + s.Version
	}, map[string]outcome{
		"for external runtimes": {in: on(), want: "pod1/kubepods/pod1/c1rootfs" + specs.Version},
	})
}

// A configuration without any Linux part is one that crictl users write.
func TestBareContainer(t *testing.T) {
	in := on(sharedPID)
	in.Config = &container{Metadata: in.Config.Metadata, Image: in.Config.Image}
	in.Image = ocispec.ImageConfig{Cmd: []string{"x"}}
	s, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"x"}, s.Process.Args); diff != "" {
		t.Error(diff)
	}
}
