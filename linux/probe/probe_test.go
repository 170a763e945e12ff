package probe

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux/namespace"
)

// held is what a process could leave behind.
type held struct {
	mounts, fds int
	children    string
}

func look(t *testing.T) held {
	t.Helper()
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var children string
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, _ := os.ReadFile(task) // the thread may have ended
		children += string(text)
	}
	return held{len(mounts), len(fds), children}
}

func TestProbesLeaveNothingBehind(t *testing.T) {
	dir := t.TempDir()
	kernel() // once before, for what libraries keep open
	OverlayAt(dir)
	before := look(t)
	facts, overlay := kernel(), OverlayAt(dir)
	if after := look(t); after != before {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("files left: %v", left)
	}
	text, err := json.MarshalIndent(map[string]any{"kernel": facts, "overlay": overlay}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
}

func TestFactsOfThisHost(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("as root only: the probes try what only root may")
	}
	f := Kernel()
	if !f.Version.AtLeast(5, 15) || f.Version.AtLeast(1000, 0) {
		t.Errorf("version %+v of %q", f.Version, f.Release)
	}
	for name, feature := range map[string]Feature{
		"openat2": f.Openat2, "mount_setattr": f.MountSetattr, "seccomp": f.Seccomp,
	} {
		if !feature.OK {
			t.Errorf("%s: every kernel that Berth supports has it, got %q", name, feature.Why)
		}
	}
	if f.Version.AtLeast(6, 15) != f.PidfdExitInfo.OK {
		t.Errorf("kernel %s and exit information: %+v", f.Release, f.PidfdExitInfo)
	}
	if got := f.CloneIntoCgroup; got.OK != (f.Cgroup.Unified != "") {
		t.Errorf("cgroup v2 at %q and CLONE_INTO_CGROUP: %+v", f.Cgroup.Unified, got)
	}
	if got := f.CgroupKill; got.OK != (f.Cgroup.Unified != "") {
		t.Errorf("cgroup v2 at %q and cgroup.kill: %+v", f.Cgroup.Unified, got)
	}
	if !f.Holds("CAP_SYS_ADMIN") || slices.Contains(f.CapabilitiesMissing, "CAP_SYS_ADMIN") {
		t.Errorf("root without CAP_SYS_ADMIN: held %v, missing %v", f.CapabilitiesHeld, f.CapabilitiesMissing)
	}
	if len(f.CapabilitiesHeld)+len(f.CapabilitiesMissing) < unix.CAP_CHECKPOINT_RESTORE+1 {
		t.Errorf("held %v, missing %v", f.CapabilitiesHeld, f.CapabilitiesMissing)
	}
}

func TestACopyOfTheMountsIsNoticed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("as root only: it unshares the mount namespace")
	}
	err := namespace.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		own, err := rootMount("thread-self")
		if err != nil {
			return err
		}
		host, err := rootMount("1")
		if err == nil && own == host {
			t.Errorf("the copy and the host both see mount %d at /", own)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestVersion(t *testing.T) {
	tests := []struct {
		release string
		want    Version
	}{
		{"6.18.44-fc-v669", Version{6, 18}},
		{"5.15.0-91-generic", Version{5, 15}},
		{"6.1-rc3", Version{6, 1}},
		{"7.0", Version{7, 0}},
		{"", Version{}},
		{"banana", Version{}},
	}
	for _, tt := range tests {
		if got := parseVersion(tt.release); got != tt.want {
			t.Errorf("%q: got %v, want %v", tt.release, got, tt.want)
		}
	}
	v := Version{5, 15}
	if !v.AtLeast(5, 15) || !v.AtLeast(4, 20) || v.AtLeast(5, 16) || v.AtLeast(6, 0) {
		t.Error("AtLeast compares wrongly")
	}
}

func TestAt(t *testing.T) {
	dir := t.TempDir()
	tmpfs := filepath.Join(dir, "tmpfs")
	if err := os.Mkdir(tmpfs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", tmpfs, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	defer unix.Unmount(tmpfs, unix.MNT_DETACH)

	got, err := At(filepath.Join(tmpfs, "not", "there"))
	if err != nil || got.Filesystem != "tmpfs" || got.Dir != tmpfs || got.Free == 0 || got.Free > 1<<20 {
		t.Errorf("got %+v, %v", got, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := At(file); err == nil {
		t.Errorf("a file passed as a directory: %+v", got)
	}
}

func TestOverlayOnAFileSystemThatCannot(t *testing.T) {
	// proc takes no new directories at all.
	if o := OverlayAt("/proc"); o.Mount.OK || o.Mount.Why == "" {
		t.Errorf("got %+v", o)
	}
}
