package nri

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-cri/berth/runtime/cdi"
	"github.com/berth-cri/berth/runtime/container"
	"github.com/containerd/errdefs"
	"github.com/containerd/nri/pkg/api"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func ptr[T any](v T) *T { return &v }

func TestChangeOf(t *testing.T) {
	type limits = runtimeapi.LinuxContainerResources
	for name, tc := range map[string]struct {
		in   *api.LinuxResources
		want container.Change
		bad  bool
	}{
		"nil":             {nil, container.Change{}, false},
		"nothing":         {&api.LinuxResources{}, container.Change{}, false},
		"nothing, nested": {&api.LinuxResources{Cpu: &api.LinuxCPU{}, Memory: &api.LinuxMemory{}, Pids: &api.LinuxPids{}, Unified: map[string]string{}}, container.Change{}, false},
		"the CRI's": {
			&api.LinuxResources{
				Cpu:            &api.LinuxCPU{Quota: api.Int64(1), Period: api.UInt64(2), Shares: api.UInt64(3), Cpus: "4", Mems: "5"},
				Memory:         &api.LinuxMemory{Limit: api.Int64(6), Swap: api.Int64(7)},
				HugepageLimits: []*api.HugepageLimit{{PageSize: "2MB", Limit: 8}},
				Unified:        map[string]string{"memory.high": "9"},
			},
			container.Change{Limits: &limits{
				CpuQuota: 1, CpuPeriod: 2, CpuShares: 3, CpusetCpus: "4", CpusetMems: "5", MemoryLimitInBytes: 6, MemorySwapLimitInBytes: 7,
				HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 8}}, Unified: map[string]string{"memory.high": "9"},
			}}, false,
		},
		"what the CRI has no words for": {
			&api.LinuxResources{
				Cpu: &api.LinuxCPU{RealtimeRuntime: api.Int64(1), RealtimePeriod: api.UInt64(2)},
				Memory: &api.LinuxMemory{
					Reservation: api.Int64(3), Kernel: api.Int64(4), KernelTcp: api.Int64(5), Swappiness: api.UInt64(0),
					DisableOomKiller: api.Bool(true), UseHierarchy: api.Bool(false),
				},
				Pids: &api.LinuxPids{Limit: 6},
			},
			container.Change{More: &specs.LinuxResources{
				CPU: &specs.LinuxCPU{RealtimeRuntime: ptr(int64(1)), RealtimePeriod: ptr(uint64(2))},
				Memory: &specs.LinuxMemory{
					//lint:ignore SA1019 as in what is tested
					Reservation: ptr(int64(3)), Kernel: ptr(int64(4)), KernelTCP: ptr(int64(5)), Swappiness: ptr(uint64(0)),
					DisableOOMKiller: ptr(true), UseHierarchy: ptr(false),
				},
				Pids: &specs.LinuxPids{Limit: ptr(int64(6))},
			}}, false,
		},
		"any number of processes": {&api.LinuxResources{Pids: &api.LinuxPids{Limit: -1}}, container.Change{More: &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}}}, false},
		"device rules":            {&api.LinuxResources{Devices: []*api.LinuxDeviceCgroup{{}}}, container.Change{}, true},
		"block I/O class":         {&api.LinuxResources{BlockioClass: api.String("x")}, container.Change{}, true},
		"RDT class":               {&api.LinuxResources{RdtClass: api.String("")}, container.Change{}, true},
	} {
		got, err := changeOf(tc.in)
		if errdefs.IsNotImplemented(err) != tc.bad || (err != nil) != tc.bad {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(tc.want, got, protocmp.Transform()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// What the CRI says and plugins leave alone comes back the same.
func TestLimitsThereAndBack(t *testing.T) {
	in := &runtimeapi.LinuxContainerResources{
		CpuQuota: -1, CpuShares: 3, CpusetCpus: "0-1", MemoryLimitInBytes: 6, MemorySwapLimitInBytes: 7,
		HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB"}}, Unified: map[string]string{"a.b": "c"},
	}
	for name, r := range map[string]*runtimeapi.LinuxContainerResources{"some": in, "a cpuset": {CpusetCpus: "0"}} {
		got, err := changeOf(fromCRI(r).Copy())
		if d := cmp.Diff(container.Change{Limits: r}, got, protocmp.Transform()); d != "" || err != nil {
			t.Errorf("%s: %v, %s", name, err, d)
		}
	}
	if fromCRI(nil) != nil {
		t.Error("of nothing comes something")
	}
}

func testService(t *testing.T) *Service {
	t.Helper()
	dir := t.TempDir()
	file := `{"cdiVersion":"0.6.0","kind":"a.b/c","devices":[{"name":"d","containerEdits":{"env":["CDI=yes"]}}]}`
	if err := os.WriteFile(filepath.Join(dir, "c.json"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &Service{Options: Options{Log: slog.New(slog.DiscardHandler)}}
	s.settings.Store(&Settings{CDI: cdi.Open([]string{dir}), RequestTimeout: time.Second})
	return s
}

func testSpec() *specs.Spec {
	return &specs.Spec{
		Process: &specs.Process{
			Args: []string{"a"}, Env: []string{"A=1", "B=2", "C=x=y"}, OOMScoreAdj: ptr(5),
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 1, Hard: 1}, {Type: "RLIMIT_NOFILE", Soft: 2, Hard: 2}},
		},
		Annotations: map[string]string{"old": "1", "gone": "1"},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc"}, {Destination: "/data/deep", Type: "bind"}, {Destination: "/data", Type: "bind"},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/p/id",
			Namespaces:  []specs.LinuxNamespace{{Type: "network", Path: "/n"}, {Type: "mount"}},
			Devices:     []specs.LinuxDevice{{Path: "/dev/a"}, {Path: "/dev/b"}},
			Resources:   &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}, Memory: &specs.LinuxMemory{Limit: ptr(int64(1))}},
			Sysctl:      map[string]string{"net.a": "1"},
		},
	}
}

func TestAdjust(t *testing.T) {
	for name, tc := range map[string]struct {
		adjust func(*api.ContainerAdjustment)
		want   func(*specs.Spec)
		change container.Change
	}{
		"nothing": {func(*api.ContainerAdjustment) {}, func(*specs.Spec) {}, container.Change{}},
		"annotations": {func(a *api.ContainerAdjustment) {
			a.AddAnnotation("new", "2")
			a.RemoveAnnotation("gone")
		}, func(s *specs.Spec) { s.Annotations = map[string]string{"old": "1", "new": "2"} }, container.Change{}},
		"arguments": {func(a *api.ContainerAdjustment) { a.SetArgs([]string{"b", "c"}) },
			func(s *specs.Spec) { s.Process.Args = []string{"b", "c"} }, container.Change{}},
		"a limit that is there and one that is not": {func(a *api.ContainerAdjustment) {
			a.AddRlimit("RLIMIT_NOFILE", 9, 8)
			a.AddRlimit("RLIMIT_CPU", 7, 6)
		}, func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{
				{Type: "RLIMIT_CORE", Soft: 1, Hard: 1}, {Type: "RLIMIT_NOFILE", Hard: 9, Soft: 8}, {Type: "RLIMIT_CPU", Hard: 7, Soft: 6},
			}
		}, container.Change{}},
		"mounts, in their order": {func(a *api.ContainerAdjustment) {
			a.AddMount(&api.Mount{Destination: "/data/deep/er", Type: "tmpfs", Source: "tmpfs"})
			a.RemoveMount("/data/deep")
		}, func(s *specs.Spec) {
			s.Mounts = []specs.Mount{
				{Destination: "/data", Type: "bind"}, {Destination: "/proc", Type: "proc"},
				{Destination: "/data/deep/er", Type: "tmpfs", Source: "tmpfs", Options: []string{}},
			}
		}, container.Change{}},
		"a device and who may use it": {func(a *api.ContainerAdjustment) {
			a.AddDevice(&api.LinuxDevice{Path: "/dev/n", Type: "c", Major: 1, Minor: 2})
		}, func(s *specs.Spec) {
			s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{Path: "/dev/n", Type: "c", Major: 1, Minor: 2})
			s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(2)), Access: "rw"})
		}, container.Change{}},
		"a CDI device": {func(a *api.ContainerAdjustment) { a.AddCDIDevice(&api.CDIDevice{Name: "a.b/c=d"}) },
			func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "CDI=yes") }, container.Change{}},
		"hooks": {func(a *api.ContainerAdjustment) {
			a.AddHooks(&api.Hooks{Poststop: []*api.Hook{{Path: "/h", Args: []string{"h"}, Timeout: api.Int(3)}}})
		}, func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/h", Args: []string{"h"}, Env: []string{}, Timeout: ptr(3)}}}
		}, container.Change{}},
		"namespaces": {func(a *api.ContainerAdjustment) {
			a.RemoveNamespace(&api.LinuxNamespace{Type: "network"})
			a.AddOrReplaceNamespace(&api.LinuxNamespace{Type: "ipc", Path: "/i"})
		}, func(s *specs.Spec) {
			s.Linux.Namespaces = []specs.LinuxNamespace{{Type: "mount"}, {Type: "ipc", Path: "/i"}}
		}, container.Change{}},
		"sysctls": {func(a *api.ContainerAdjustment) {
			a.SetLinuxSysctl("net.b", "2")
			a.SetLinuxSysctl(api.MarkForRemoval("net.a"), "")
		}, func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.b": "2"} }, container.Change{}},
		"the cgroup": {func(a *api.ContainerAdjustment) { a.SetLinuxCgroupsPath("/q/id") },
			func(s *specs.Spec) { s.Linux.CgroupsPath = "/q/id" }, container.Change{}},
		"an RDT class": {func(a *api.ContainerAdjustment) { a.SetLinuxRDTClass("gold") },
			func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "gold"} }, container.Change{}},
		"a seccomp policy with a default errno": {func(a *api.ContainerAdjustment) {
			a.SetLinuxSeccompPolicy(&api.LinuxSeccomp{DefaultAction: "SCMP_ACT_ERRNO", DefaultErrno: &api.OptionalUInt32{Value: 38}})
		}, func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: "SCMP_ACT_ERRNO", DefaultErrnoRet: ptr(uint(38)), Architectures: []specs.Arch{}, Flags: []specs.LinuxSeccompFlag{}, Syscalls: []specs.LinuxSyscall{}}
		}, container.Change{}},
		"limits and the OOM score, which are returned": {func(a *api.ContainerAdjustment) {
			a.SetLinuxMemoryLimit(64)
			a.SetLinuxMemorySwap(128)
			a.SetLinuxPidLimits(3)
			a.SetLinuxOomScoreAdj(ptr(0))
		}, func(*specs.Spec) {}, container.Change{
			Limits:      &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 64, MemorySwapLimitInBytes: 128},
			More:        &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(3))}},
			OOMScoreAdj: ptr(0),
		}},
	} {
		want, got := testSpec(), testSpec()
		tc.want(want)
		a := &api.ContainerAdjustment{}
		tc.adjust(a)
		change, err := testService(t).adjust(got, a)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: the spec: %s", name, d)
		}
		if d := cmp.Diff(tc.change, change, protocmp.Transform()); d != "" {
			t.Errorf("%s: the change: %s", name, d)
		}
	}
	alone := t.TempDir()
	for _, flags := range []uintptr{unix.MS_BIND, unix.MS_PRIVATE} {
		if err := unix.Mount(alone, alone, "", flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	defer unix.Unmount(alone, unix.MNT_DETACH)
	for name, tc := range map[string]struct {
		adjust func(*api.ContainerAdjustment)
		is     func(error) bool
	}{
		"block I/O class":   {func(a *api.ContainerAdjustment) { a.SetLinuxBlockIOClass("x") }, errdefs.IsNotImplemented},
		"unknown namespace": {func(a *api.ContainerAdjustment) { a.AddOrReplaceNamespace(&api.LinuxNamespace{Type: "dream"}) }, errdefs.IsInvalidArgument},
		"no such device":    {func(a *api.ContainerAdjustment) { a.AddCDIDevice(&api.CDIDevice{Name: "a.b/c=e"}) }, errdefs.IsFailedPrecondition},
		"a mount that is not shared": {func(a *api.ContainerAdjustment) {
			a.AddMount(&api.Mount{Destination: "/x", Type: "bind", Source: alone, Options: []string{"bind", "rshared"}})
		}, errdefs.IsInvalidArgument},
	} {
		a := &api.ContainerAdjustment{}
		tc.adjust(a)
		if _, err := testService(t).adjust(testSpec(), a); !tc.is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The library's answer lacks what is taken away; the container that it was
// asked about shows it.
func TestRemove(t *testing.T) {
	sp := testSpec()
	a := &api.ContainerAdjustment{}
	a.AddEnv("A", "9")
	remove(a, sp, &api.Container{
		Env: []string{"C=x=y", "A=9"}, Linux: &api.LinuxContainer{Devices: []*api.LinuxDevice{{Path: "/dev/b"}}},
	})
	if _, err := testService(t).adjust(sp, a); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"A=9", "C=x=y"}, sp.Process.Env); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]specs.LinuxDevice{{Path: "/dev/b"}}, sp.Linux.Devices); d != "" {
		t.Error(d)
	}
}

func TestFree(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	l, err := net.Listen("unix", at("alive"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: at("dead")})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	os.WriteFile(at("file"), nil, 0o600)
	os.Symlink(at("alive"), at("to-alive"))
	os.Symlink(at("missing"), at("to-nothing"))
	for name, ok := range map[string]bool{
		"missing": true, "deep/missing": true, "dead": true, "to-nothing": true, "alive": false, "to-alive": false, "file": false,
	} {
		if err := free(at(name)); (err == nil) != ok || err != nil && !errdefs.IsAlreadyExists(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Where a socket that nobody chose is taken, the daemon goes on without.
func TestSocketOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nri.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := Options{
		Socket: path, PluginDir: t.TempDir(), ConfigDir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		Settings: Settings{RegistrationTimeout: time.Second, RequestTimeout: time.Second}, Pods: noPods{}, Containers: noContainers{},
	}
	s, err := New(o)
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the socket was taken: %v", err)
	}
	conn.Close()
	if c, err := l.Accept(); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	o.MustListen = true
	if _, err := New(o); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a chosen one: %v", err)
	}
	o.DisableConnections = true
	if _, err := New(o); err != nil {
		t.Errorf("one that nobody wants: %v", err)
	}
}

// Without plugins nothing is translated: a container whose spec is not even
// there passes.
func TestWithoutPlugins(t *testing.T) {
	dir := t.TempDir()
	s, err := New(Options{
		Socket: filepath.Join(dir, "nri.sock"), PluginDir: dir, ConfigDir: dir, Log: slog.New(slog.DiscardHandler),
		Settings: Settings{RegistrationTimeout: time.Second, RequestTimeout: time.Second}, Pods: noPods{}, Containers: noContainers{},
	})
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := context.Background()
	allocs := testing.AllocsPerRun(100, func() {
		release := s.Hold()
		err := s.RunPod(ctx, nil)
		_, cerr := s.CreateContainer(ctx, nil, nil, nil)
		release()
		if err = cmpErr(err, cerr, s.StartContainer(ctx, nil)); err != nil {
			t.Fatal(err)
		}
		s.ContainerCreated(ctx, nil)
		s.PodUpdated(ctx, nil)
	})
	if allocs > 4 { // two holds, each a handle and its method
		t.Errorf("%v allocations", allocs)
	}
}

func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkWithoutPlugins is what a pod with one container pays, from its start
// to its removal.
func BenchmarkWithoutPlugins(b *testing.B) {
	dir := b.TempDir()
	s, err := New(Options{
		Socket: filepath.Join(dir, "nri.sock"), PluginDir: dir, ConfigDir: dir, Log: slog.New(slog.DiscardHandler),
		Settings: Settings{RegistrationTimeout: time.Second, RequestTimeout: time.Second}, Pods: noPods{}, Containers: noContainers{},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	for b.Loop() {
		for range 2 {
			release := s.Hold()
			s.RunPod(ctx, nil)
			release()
		}
		s.StartContainer(ctx, nil)
		for range 6 {
			s.PodUpdated(ctx, nil)
		}
	}
	b.ReportAllocs()
}

// FuzzAdjust takes what a plugin may send.
func FuzzAdjust(f *testing.F) {
	a := &api.ContainerAdjustment{}
	a.AddEnv("A", "1")
	a.AddMount(&api.Mount{Destination: "/x", Type: "bind", Source: "/", Options: []string{"rbind", "rslave"}})
	a.AddDevice(&api.LinuxDevice{Path: "/dev/n", Type: "c"})
	a.AddHooks(&api.Hooks{Prestart: []*api.Hook{{}}})
	a.AddOrReplaceNamespace(&api.LinuxNamespace{Type: "ipc"})
	a.SetLinuxMemoryLimit(1)
	a.SetLinuxSeccompPolicy(&api.LinuxSeccomp{Syscalls: []*api.LinuxSyscall{{}}})
	a.SetLinuxScheduler(&api.LinuxScheduler{Flags: []api.LinuxSchedulerFlag{99}})
	for _, m := range []*api.ContainerAdjustment{{}, a} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	s := &Service{Options: Options{Log: slog.New(slog.DiscardHandler)}}
	s.settings.Store(&Settings{CDI: cdi.Open(nil)})
	f.Fuzz(func(t *testing.T, b []byte) {
		a := &api.ContainerAdjustment{}
		if proto.Unmarshal(b, a) != nil {
			return
		}
		sp := testSpec()
		remove(a, sp, &api.Container{})
		if _, err := s.adjust(sp, a); err == nil && (sp.Process == nil || sp.Linux == nil || sp.Linux.Resources == nil) {
			t.Error("a part of the spec is gone")
		}
	})
}
