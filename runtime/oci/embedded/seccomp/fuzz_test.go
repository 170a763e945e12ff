package seccomp

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// FuzzCompile takes any JSON for a profile: what compiles must be a well-formed
// program that means what the profile says.
func FuzzCompile(f *testing.F) {
	for _, p := range profiles(f) {
		text, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[{"names":["socket"],"action":"SCMP_ACT_TRACE","errnoRet":7,"args":[{"index":5,"value":18446744073709551615,"op":"SCMP_CMP_MASKED_EQ"}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var p specs.LinuxSeccomp
		if json.Unmarshal(text, &p) != nil {
			return
		}
		for _, machine := range []string{"amd64", "arm64"} {
			if _, err := compile(&p, machine); err == nil {
				check(t, &p, machine, 5)
			}
		}
	})
}
