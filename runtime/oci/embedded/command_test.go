package embedded

import (
	"bytes"
	"errors"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestWithCommand(t *testing.T) {
	spec := &specs.Spec{Process: &specs.Process{Args: []string{"x"}, Cwd: "/"}, Linux: &specs.Linux{}}
	exec := func(args ...string) []byte {
		p, err := CompileExec(spec, &specs.Process{Args: args, Env: []string{"A=\xff"}, Cwd: "/"})
		if err != nil {
			t.Fatal(err)
		}
		return p.Plan
	}
	got, err := WithCommand(exec("a"), []string{"b", "c"})
	if err != nil || !bytes.Equal(got, exec("b", "c")) {
		t.Errorf("not the plan that compiling gives: %v", err)
	}
	for name, tc := range map[string]struct {
		plan []byte
		args []string
		kind error
	}{
		"no command":       {exec("a"), nil, errdefs.ErrInvalidArgument},
		"NUL in a command": {exec("a"), []string{"a\x00b"}, errdefs.ErrInvalidArgument},
		"not a plan":       {[]byte("?"), []string{"a"}, errdefs.ErrDataLoss},
	} {
		if _, err := WithCommand(tc.plan, tc.args); !errors.Is(err, tc.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
