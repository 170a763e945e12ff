package embedded

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// podContainer is a container as the kubelet asks for it: in pinned namespaces,
// with the files of its pod, masks and the default filter.
func podContainer(b *testing.B) *specs.Spec {
	_, join := pinned(b)
	s := specOf("true")
	s.Linux.Namespaces = join
	dir := b.TempDir()
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			b.Fatal(err)
		}
		s.Mounts = append(s.Mounts, bind(filepath.Join(dir, name), "/etc/"+name, "rbind", "rprivate", "ro"))
	}
	for _, target := range []string{"/var/run/secrets/kubernetes.io/serviceaccount", "/data", "/dev/termination-log"} {
		s.Mounts = append(s.Mounts, bind(dir, target, "rbind", "rprivate", "rw"))
	}
	profile, err := seccomp.GetDefaultProfile(s)
	if err != nil {
		b.Fatal(err)
	}
	s.Linux.Seccomp = profile
	return s
}

// report gives the median and the 95th percentile of a start, and the median of
// a start with the whole life of "true".
func report(b *testing.B, started, whole []time.Duration) {
	slices.Sort(started)
	slices.Sort(whole)
	micro := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	b.ReportMetric(micro(started[len(started)/10]), "p10-µs") // other load disturbs it least
	b.ReportMetric(micro(started[len(started)/2]), "p50-µs")
	b.ReportMetric(micro(started[len(started)*95/100]), "p95-µs")
	b.ReportMetric(micro(whole[len(whole)/2]), "whole-p50-µs")
	b.ReportMetric(0, "ns/op")
}

func measure(b *testing.B, next func() Start) {
	var started, whole []time.Duration
	before := cpuTime(unix.RUSAGE_CHILDREN)
	for b.Loop() {
		s := next()
		begin := time.Now()
		p, err := launcher.Start(b.Context(), s)
		if err != nil {
			b.Fatal(err)
		}
		started = append(started, time.Since(begin))
		wait(b, p)
		whole = append(whole, time.Since(begin))
		p.Pidfd.Close()
		s.Plan.Close()
	}
	used := cpuTime(unix.RUSAGE_CHILDREN) - before
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "child-cpu-µs") // told apart from the machine's other load
	report(b, started, whole)
}

func cpuTime(who int) time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(who, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkStartContainer(b *testing.B) {
	placement, _ := testCgroup(b)
	spec, o := podContainer(b), overlayOf(b)
	p, err := Compile(spec, o)
	if err != nil {
		b.Fatal(err)
	}
	measure(b, func() Start {
		p.Plan = withUpper(b, p, freshUpper(b, o))
		return Start{Prepared: p, Plan: planFile(b, p), Cgroup: placement}
	})
}

func BenchmarkStartContainerWithLittle(b *testing.B) {
	spec, o := specOf("true"), overlayOf(b)
	spec.Mounts, spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = spec.Mounts[:2], nil, nil
	p, err := Compile(spec, o)
	if err != nil {
		b.Fatal(err)
	}
	measure(b, func() Start {
		p.Plan = withUpper(b, p, freshUpper(b, o))
		return Start{Prepared: p, Plan: planFile(b, p)}
	})
}

func BenchmarkExec(b *testing.B) {
	placement, _ := testCgroup(b)
	spec := podContainer(b)
	spec.Process.Args = []string{"sleep", "1000"}
	target := background(b, spec, overlayOf(b), func(s *Start) { s.Cgroup = placement })
	process := *spec.Process
	process.Args = []string{"true"}
	p, err := CompileExec(spec, &process)
	if err != nil {
		b.Fatal(err)
	}
	measure(b, func() Start {
		return Start{Prepared: p, Plan: planFile(b, p), Cgroup: placement, TargetPidfd: target.Pidfd}
	})
}

func BenchmarkCompile(b *testing.B) {
	spec, o := podContainer(b), overlayOf(b)
	for b.Loop() {
		if _, err := Compile(spec, o); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFork is the floor of this machine: a static program, without more.
func BenchmarkFork(b *testing.B) {
	if _, err := os.Stat("/bin/busybox"); err != nil {
		b.Skip(err)
	}
	var all []time.Duration
	before := cpuTime(unix.RUSAGE_CHILDREN)
	for b.Loop() {
		begin := time.Now()
		p, err := os.StartProcess("/bin/busybox", []string{"true"}, &os.ProcAttr{})
		if err != nil {
			b.Fatal(err)
		}
		p.Wait()
		all = append(all, time.Since(begin))
	}
	used := cpuTime(unix.RUSAGE_CHILDREN) - before
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "child-cpu-µs")
	report(b, all, all)
}
