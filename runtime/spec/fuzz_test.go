package spec

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// FuzzParseProfile takes any file for a seccomp profile.
func FuzzParseProfile(f *testing.F) {
	for _, text := range []string{
		``, `null`, `{}`, `[]`, `{"defaultAction":"SCMP_ACT_ALLOW"}`,
		`{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],"syscalls":[{"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"],"minKernel":"4.8","arches":["amd64"]},"excludes":{"caps":["CAP_X"]}},null]}`,
		`{"defaultAction":"SCMP_ACT_KILL","architectures":["SCMP_ARCH_X86"],"flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[{"name":"read","action":"SCMP_ACT_TRACE","errnoRet":1,"args":[{"index":1,"value":18446744073709551615,"op":"SCMP_CMP_EQ"}]}]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParseProfile(text, []string{"CAP_SYS_ADMIN"})
		if err == nil && p == nil {
			t.Error("no profile and no error: the container would run without one")
		}
		if err == nil {
			if _, err := json.Marshal(p); err != nil {
				t.Errorf("the profile cannot be written down: %v", err)
			}
		}
	})
}

// FuzzBuild takes any container configuration: what gets a spec has passed
// validation, and the spec can be written down.
func FuzzBuild(f *testing.F) {
	for _, in := range shapes {
		text, err := json.Marshal(in.Config)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, true)
	}
	f.Fuzz(func(t *testing.T, text []byte, own bool) {
		var c runtimeapi.ContainerConfig
		if json.Unmarshal(text, &c) != nil {
			return
		}
		in := input()
		if own {
			sharedPID(&in)
		}
		in.Config = &c
		in.Resolved = Resolved{Mounts: make([]Source, len(c.GetMounts()))}
		in.Resolved.SeccompProfile = []byte(`{"defaultAction":"SCMP_ACT_LOG"}`)
		s, err := Build(in)
		if err != nil {
			return
		}
		if s.Process == nil || len(s.Process.Args) == 0 || s.Linux == nil || s.Root == nil {
			t.Errorf("half a spec: %+v", s)
		}
		for _, n := range s.Linux.Namespaces {
			if n.Type == specs.UserNamespace {
				t.Error("a user namespace that nobody can make")
			}
		}
		if _, err := json.Marshal(s); err != nil {
			t.Errorf("the spec cannot be written down: %v", err)
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	in := on(secure(func(s *security) {
		s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	}))
	for b.Loop() {
		if _, err := Build(in); err != nil {
			b.Fatal(err)
		}
	}
}
