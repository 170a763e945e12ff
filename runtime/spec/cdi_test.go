package spec

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func cdiField(names ...string) []*runtimeapi.CDIDevice {
	var list []*runtimeapi.CDIDevice
	for _, n := range names {
		list = append(list, &runtimeapi.CDIDevice{Name: n})
	}
	return list
}

func TestCDIDevices(t *testing.T) {
	for situation, tc := range map[string]struct {
		field       []*runtimeapi.CDIDevice
		annotations map[string]string
		want        string
		bad         string // what the error names
	}{
		"none":            {nil, map[string]string{"cdi": "x"}, "", ""},
		"the field":       {cdiField("a.b/c=d", "a.b/c=e", "a.b/c=d"), nil, "a.b/c=d a.b/c=e", ""},
		"annotations":     {nil, map[string]string{"cdi.k8s.io/z": "a.b/c=z", "cdi.k8s.io/a": "a.b/c=d,a.b/c=e", "other": "x"}, "a.b/c=d a.b/c=e a.b/c=z", ""},
		"both":            {cdiField("a.b/c=d"), map[string]string{"cdi.k8s.io/a": "a.b/c=d,a.b/c=e"}, "a.b/c=d a.b/c=e", ""},
		"no device":       {cdiField("a.b/c=d", "a.b/c"), nil, "", "CDI_devices[1]"},
		"no vendor":       {cdiField("c=d"), nil, "", "CDI_devices[0]"},
		"an empty name":   {cdiField(""), nil, "", "CDI_devices[0]"},
		"a path":          {cdiField("a.b/c=../d"), nil, "", "CDI_devices[0]"},
		"in annotations":  {nil, map[string]string{"cdi.k8s.io/a": "gpu0"}, "", "annotation cdi.k8s.io/a"},
		"an empty string": {nil, map[string]string{"cdi.k8s.io/a": ""}, "", "annotation cdi.k8s.io/a"},
	} {
		got, err := CDIDevices(&container{CDIDevices: tc.field, Annotations: tc.annotations})
		if tc.bad != "" {
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.bad) {
				t.Errorf("%s: %q, %v", situation, got, err)
			}
		} else if err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %q, %v", situation, got, err)
		}
	}
}

func TestCDIStep(t *testing.T) {
	asks := func(in *Input) { in.Config.CDIDevices = cdiField("a.b/c=d") }
	edit := func(f func(*specs.Spec) error) func(*Input) {
		return func(in *Input) { in.Resolved.CDI = f }
	}
	group := edit(func(s *specs.Spec) error {
		s.Process.Env = append(s.Process.Env, "CDI=yes")
		s.Process.User.AdditionalGids = append(s.Process.User.AdditionalGids, 70000)
		return nil
	})
	fails := edit(func(*specs.Spec) error {
		return errors.Join(errors.New("no such device"), errdefs.ErrFailedPrecondition)
	})
	tryEach(t, func(s *specs.Spec) any { return slices.Contains(s.Process.Env, "CDI=yes") }, map[string]outcome{
		"nobody asks":                 {in: on(group), want: "false"},
		"edits":                       {in: on(asks, group), want: "true"},
		"nobody has looked":           {in: on(asks), kind: errdefs.IsInternal, want: "were not prepared"},
		"edits that fail":             {in: on(asks, fails), kind: errdefs.IsFailedPrecondition, want: "no such device"},
		"a group that is not mapped":  {in: on(inUserns, asks, group), kind: errdefs.IsInvalidArgument, want: "groups 0 to 65535"},
		"a name that is not complete": {in: on(func(in *Input) { in.Config.CDIDevices = cdiField("gpu") }), kind: errdefs.IsInvalidArgument, want: "CDI_devices[0]"},
	})
}

func FuzzCDIDevices(f *testing.F) {
	f.Add("a.b/c=d", "a.b/c=e")
	f.Add("", ",")
	f.Fuzz(func(t *testing.T, field, annotation string) {
		names, err := CDIDevices(&container{CDIDevices: cdiField(field), Annotations: map[string]string{"cdi.k8s.io/x": annotation}})
		if err == nil && (len(names) == 0 || slices.Contains(names, "")) {
			t.Errorf("%q and %q gave %q", field, annotation, names)
		}
	})
}
