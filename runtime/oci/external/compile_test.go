package external

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func modern() *Runtime {
	return &Runtime{Name: "runc", Program: "/usr/sbin/runc", Root: "/run/b/runtimes/runc", Area: "/run/b/oci", Features: Features{
		Known: true, MountOptions: []string{"rnoexec", "rro"}, Namespaces: []string{"user"}, ExecCgroup: true,
	}}
}

func TestCompile(t *testing.T) {
	root := Overlay{Lower: []string{"/l/1", "/l/0"}, Upper: "/c/upper", Work: "/c/work", Volatile: true}
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	for name, tc := range map[string]struct {
		change  func(*specs.Spec)
		mount   specs.Mount // as the runtime gets it
		volumes []tree
	}{
		"a bind mount stays": {func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Type: "bind", Source: "/no/such", Destination: "/d", Options: []string{"rbind", "rro"}}}
		}, specs.Mount{Type: "bind", Source: "/no/such", Destination: "/d", Options: []string{"rbind", "rro"}}, nil},
		"a file system stays": {func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Type: "tmpfs", Source: "tmpfs", Destination: "/d", Options: []string{"mode=0755"}}}
		}, specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: "/d", Options: []string{"mode=0755"}}, nil},
		"layers of an image": {func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Type: "overlay", Source: "overlay", Destination: "/d", Options: []string{"ro", "nodev", `lowerdir=/a\:b:/c`, "X-mount.subdir=e/f"}}}
		}, specs.Mount{Type: "bind", Source: "/run/b/oci/volumes/0", Destination: "/d", Options: []string{"bind", "ro", "nodev"}},
			[]tree{{Lower: []string{"/a:b", "/c"}, SubPath: "e/f"}}},
		"a path in a directory": {func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Type: "bind", Source: "/no/such", Destination: "/d", Options: []string{"bind", "X-mount.subdir=x", "ro"}}}
		}, specs.Mount{Type: "bind", Source: "/run/b/oci/volumes/0", Destination: "/d", Options: []string{"bind", "ro"}},
			[]tree{{Bind: "/no/such", SubPath: "x"}}},
		"other ids, below too": {func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Type: "bind", Source: "/no/such", Destination: "/d", Options: []string{"rbind", "ridmap"}, UIDMappings: ids, GIDMappings: ids}}
		}, specs.Mount{Type: "bind", Source: "/run/b/oci/volumes/0", Destination: "/d", Options: []string{"rbind"}},
			[]tree{{Bind: "/no/such", Recursive: true, Mapped: true, MapBelow: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &specs.Spec{Version: specs.Version, Process: &specs.Process{Terminal: true}, Root: &specs.Root{Readonly: true}, Linux: &specs.Linux{}}
			tc.change(s)
			p, err := modern().Compile(s, root, "id", "/run/b/containers/id")
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(s.Mounts[0], tc.mount) {
				t.Errorf("the runtime gets %+v, want %+v", s.Mounts[0], tc.mount)
			}
			var plan mountPlan
			if err := json.Unmarshal(p.Plan, &plan); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(plan.Volumes, tc.volumes) {
				t.Errorf("mounted before: %+v, want %+v", plan.Volumes, tc.volumes)
			}
			if want := (tree{Lower: root.Lower, Upper: root.Upper, Work: root.Work, Volatile: true}); !reflect.DeepEqual(plan.Root, want) {
				t.Errorf("root %+v", plan.Root)
			}
			if *s.Root != (specs.Root{Path: "/run/b/oci/rootfs", Readonly: true}) || s.Version != specs.Version || !p.Terminal ||
				p.External.ID != "id" || p.External.Bundle != "/run/b/containers/id" || !p.External.ExecCgroup {
				t.Errorf("%+v, %+v, %+v", s.Root, p, p.External)
			}
		})
	}
}

func TestCompileForAUserNamespace(t *testing.T) {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	s := &specs.Spec{
		Process: &specs.Process{User: specs.User{UID: 7, GID: 70000}},
		Linux: &specs.Linux{UIDMappings: ids, GIDMappings: ids, Namespaces: []specs.LinuxNamespace{
			{Type: specs.MountNamespace}, {Type: specs.UserNamespace, Path: "/ns/user"}, {Type: specs.NetworkNamespace, Path: "/ns/net"},
		}},
	}
	p, err := modern().Compile(s, Overlay{Lower: []string{"/l"}}, "id", "/b")
	if err != nil {
		t.Fatal(err)
	}
	var plan mountPlan
	if err := json.Unmarshal(p.Plan, &plan); err != nil {
		t.Fatal(err)
	}
	if plan.UserNamespace != "/ns/user" || !plan.Root.Mapped {
		t.Errorf("plan %+v", plan)
	}
	if p.UID != 100007 || p.GID != 70000 || len(p.Join) != 2 {
		t.Errorf("%+v", p)
	}
}

func TestCompileForAnOldRuntime(t *testing.T) {
	old := &Runtime{Name: "crun", Area: "/a"}
	s := &specs.Spec{Version: specs.Version, Process: &specs.Process{}, Linux: &specs.Linux{}}
	if _, err := old.Compile(s, Overlay{}, "id", "/b"); err != nil || s.Version != "1.0.2" {
		t.Errorf("version %s, %v", s.Version, err)
	}
	s.Mounts = []specs.Mount{{Type: "bind", Source: "/x", Destination: "/d", Options: []string{"bind", "rro"}}}
	if _, err := old.Compile(s, Overlay{}, "id", "/b"); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "rro") || !strings.Contains(err.Error(), "crun") {
		t.Errorf("recursive read-only: %v", err)
	}
	s = &specs.Spec{Process: &specs.Process{Env: []string{"A=\xff"}}, Linux: &specs.Linux{}}
	if _, err := old.Compile(s, Overlay{}, "id", "/b"); !errdefs.IsNotImplemented(err) {
		t.Errorf("bytes that JSON does not have: %v", err)
	}
	if _, err := old.Compile(&specs.Spec{}, Overlay{}, "id", "/b"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an empty spec: %v", err)
	}
}

func TestWithCommand(t *testing.T) {
	adj := 7
	b, err := WithCommand([]byte(`{"args":["x"],"cwd":"/w","env":["A=b"]}`), []string{"sh", "-c", "y"}, &adj)
	var p specs.Process
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil || !slices.Equal(p.Args, []string{"sh", "-c", "y"}) || p.Cwd != "/w" || *p.OOMScoreAdj != 7 || p.Env[0] != "A=b" {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := WithCommand([]byte(`{}`), []string{"a\x00"}, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a NUL: %v", err)
	}
	if _, err := WithCommand([]byte(`{}`), []string{"\xff"}, nil); !errdefs.IsNotImplemented(err) {
		t.Errorf("bytes that JSON does not have: %v", err)
	}
	if _, err := WithCommand([]byte(`{`), []string{"a"}, nil); !errdefs.IsDataLoss(err) {
		t.Errorf("a torn plan: %v", err)
	}
}
