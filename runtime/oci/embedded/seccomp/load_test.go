package seccomp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The kernel's own judgement: a child (this test binary again) loads a program
// for good and says what became of some syscalls.
func TestMain(m *testing.M) {
	if what := os.Getenv("BERTH_SECCOMP_CHILD"); what != "" {
		child(what)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var childProfiles = map[string]func() *specs.LinuxSeccomp{
	"deny": func() *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: x86All, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"getpriority"}, Action: specs.ActErrno, ErrnoRet: errno(uint(unix.EXDEV))},
			{Names: []string{"getpgid"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{arg(0, specs.OpGreaterThan, 5)}},
			{Names: []string{"socket"}, Action: specs.ActErrno, ErrnoRet: errno(uint(unix.EACCES))},
			{Names: []string{"sethostname"}, Action: specs.ActKillProcess},
		}}
	},
	"kill": func() *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"getpriority"}, Action: specs.ActKillProcess}}}
	},
	"x32": func() *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	},
	"default": func() *specs.LinuxSeccomp { return runtimeDefault() },
	"default with SYS_ADMIN": func() *specs.LinuxSeccomp {
		return runtimeDefault("CAP_SYS_ADMIN")
	},
}

// loadFilter puts the filter on the calling thread.
func loadFilter(p Program) error {
	prog := unix.SockFprog{Len: uint16(len(p.Filter)), Filter: &p.Filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(p.Flags), uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return e
	}
	return nil
}

func child(what string) {
	runtime.LockOSThread()
	p, err := Compile(childProfiles[what]())
	if err == nil {
		err = loadFilter(p)
	}
	if err != nil {
		fmt.Println("load:", err)
		os.Exit(1)
	}
	if program := os.Getenv("BERTH_SECCOMP_EXEC"); program != "" {
		fmt.Println("exec:", unix.Exec(program, []string{program}, nil))
		os.Exit(1)
	}
	try := func(name string, nr uintptr, args ...uintptr) {
		args = append(args, 0, 0, 0)
		_, _, e := unix.RawSyscall(nr, args[0], args[1], args[2])
		fmt.Printf("%s=%d ", name, int(e))
	}
	switch what {
	case "deny":
		try("getpriority", unix.SYS_GETPRIORITY)
		try("getpgid0", unix.SYS_GETPGID, 0)
		try("getpgidhigh", unix.SYS_GETPGID, 1<<32) // larger than 5 only in 64 bits; the kernel would see 0
		try("getppid", unix.SYS_GETPPID)
	case "kill":
		try("getpriority", unix.SYS_GETPRIORITY)
	case "x32":
		try("x32getpid", unix.SYS_GETPID+x32Bit)
	default:
		try("getpid", unix.SYS_GETPID)
		try("unshare", unix.SYS_UNSHARE, unix.CLONE_FS)
		try("kexec", unix.SYS_KEXEC_LOAD, 0, 0, 0)
		try("clone3", unix.SYS_CLONE3, 0, 0)
		try("newns", unix.SYS_CLONE, unix.CLONE_NEWNS|unix.CLONE_FS)
		try("alg", unix.SYS_SOCKET, unix.AF_ALG, unix.SOCK_SEQPACKET)
		try("vsock", unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM)
		try("inet", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM)
		try("future", 9999)
	}
}

func TestKernelObeys(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the syscalls tried are those of amd64")
	}
	if avail, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail"); err != nil || !strings.Contains(string(avail), "errno") {
		t.Skipf("the kernel has no seccomp filters: %v", err)
	}
	for what, tc := range map[string]struct {
		want string
		dies bool
	}{
		"deny": {want: fmt.Sprintf("getpriority=%d getpgid0=0 getpgidhigh=1 getppid=0 ", unix.EXDEV)},
		"kill": {dies: true},
		"x32":  {dies: true},
		"default": {want: fmt.Sprintf("getpid=0 unshare=1 kexec=1 clone3=%d newns=1 alg=1 vsock=1 inet=0 future=%d ",
			unix.ENOSYS, unix.ENOSYS)},
		// With the capability these reach the kernel, which judges the arguments.
		"default with SYS_ADMIN": {want: fmt.Sprintf("getpid=0 unshare=0 kexec=1 clone3=%d newns=%d alg=1 vsock=1 inet=0 future=%d ",
			unix.EINVAL, unix.EINVAL, unix.ENOSYS)},
	} {
		t.Run(what, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "BERTH_SECCOMP_CHILD="+what)
			out, err := cmd.CombinedOutput()
			if tc.dies {
				var exit *exec.ExitError
				if !errors.As(err, &exit) || !strings.Contains(exit.String(), "bad system call") {
					t.Fatalf("the child ended with %v, want SIGSYS; it said %q", err, out)
				}
				return
			}
			if err != nil || string(out) != tc.want {
				t.Fatalf("got  %q\nwant %q (%v)", out, tc.want, err)
			}
		})
	}
}

// BenchmarkLoad measures what a container start pays: seccomp(2) with the
// default profile, in a thread that ends with its filter.
func BenchmarkLoad(b *testing.B) {
	p, err := Compile(runtimeDefault())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { b.ReportMetric(float64(len(p.Filter)), "instructions") }()
	for b.Loop() {
		b.StopTimer()
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread dies with its filter
			if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
				done <- err
				return
			}
			b.StartTimer()
			err := loadFilter(p)
			b.StopTimer()
			done <- err
		}()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkCompile(b *testing.B) {
	p := runtimeDefault()
	b.Run("cached", func(b *testing.B) {
		for b.Loop() {
			if _, err := Compile(p); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fresh", func(b *testing.B) {
		for b.Loop() {
			if _, err := compile(p, runtime.GOARCH); err != nil {
				b.Fatal(err)
			}
		}
	})
}
