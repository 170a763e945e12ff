package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/berth-cri/berth/linux/probe"
)

// run calls the command line and returns what it prints.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := rootCommand()
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.Execute()
	return out.String(), err
}

func TestHelpOfEveryCommand(t *testing.T) {
	for _, cmd := range rootCommand().Commands() {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short help %q", cmd.Name(), cmd.Short)
		}
		if out, err := run(t, cmd.Name(), "--help"); err != nil || !strings.Contains(out, "Usage:") {
			t.Errorf("berth %s --help: %v\n%s", cmd.Name(), err, out)
		}
	}
}

func TestWrongWords(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"srve"}, `unknown command "srve"`},
		{[]string{"config", "chek"}, `unknown command "chek"`},
		{[]string{"serve", "now"}, "now"},
		{[]string{"serve", "--rot", "/x"}, "unknown flag: --rot"},
		{[]string{"version", "-o", "yaml"}, "yaml"},
		{[]string{"doctor", "-o", "yaml"}, "yaml"},
		{[]string{"serve", "--config", "/not/there.toml"}, "/not/there.toml: cannot be read"},
		{[]string{"serve", "--log-level", "loud"}, "--log-level: log.level: "},
	}
	for _, tt := range tests {
		out, err := run(t, tt.args...)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("berth %v: error %v does not say %q", tt.args, err, tt.want)
		}
		if out != "" {
			t.Errorf("berth %v: prints %q besides the error", tt.args, out)
		}
	}
}

func TestConfigDefaultPassesConfigCheck(t *testing.T) {
	text, err := run(t, "config", "default")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "config", "check", "--config", file)
	if err != nil || !strings.Contains(out, "valid") || !strings.Contains(out, file) {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestFlagsOfServeReachTheConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, []byte("root = \"/file/root\"\nstate = \"/file/state\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var s settings
	set := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	s.register(set)
	if err := set.Parse([]string{
		"-c", file, "--root", "/flag/root", "--listen", "unix:///flag/x.sock", "--registry-config", "/flag/certs.d",
		"--cni-conf-dir", "/flag/net.d", "--cni-bin-dir", "/flag/a", "--cni-bin-dir", "/flag/b",
		"--builtin-network", "--log-level", "debug", "--log-format", "json",
	}); err != nil {
		t.Fatal(err)
	}
	got, err := s.load(set)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct{ got, want string }{
		{got.Root, "/flag/root"},
		{got.State, "/file/state"},
		{got.Listen, "/flag/x.sock"},
		{got.Image.RegistryConfigDir, "/flag/certs.d"},
		{got.CNI.ConfDir, "/flag/net.d"},
		{strings.Join(got.CNI.BinDirs, " "), "/flag/a /flag/b"},
		{got.Log.Level, "debug"},
		{got.Log.Format, "json"},
	} {
		if p.got != p.want {
			t.Errorf("got %q, want %q", p.got, p.want)
		}
	}
	if !got.CNI.BuiltinNetwork {
		t.Error("--builtin-network is lost")
	}
}

func TestDoctorOfThisHost(t *testing.T) {
	dir := t.TempDir()
	args := []string{"doctor", "--root", filepath.Join(dir, "root"), "--state", filepath.Join(dir, "state")}
	table, err := run(t, args...)
	if os.Geteuid() == 0 && err != nil {
		t.Errorf("the tests run containers here, but doctor says: %v", err)
	}
	for _, want := range []string{"kernel", "cgroups", "overlay", "capabilities", "AppArmor", "PIDFD exit info", "open files"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table has no %q", want)
		}
	}
	text, _ := run(t, append(args, "-o", "json")...)
	var r report
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if r.Kernel.Release == "" || len(r.Checks) < 20 {
		t.Errorf("got %+v", r)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("doctor left %v", left)
	}
	t.Logf("\n%s", table)
}

// TestDoctorJudges shows bad hosts to the doctor.
func TestDoctorJudges(t *testing.T) {
	yes := probe.Feature{OK: true}
	good := func() *report {
		return &report{
			Kernel: probe.Facts{
				Release: "6.18", Version: probe.Version{Major: 6, Minor: 18},
				Cgroup: probe.Cgroup{
					Mode: probe.CgroupV2, Unified: "/sys/fs/cgroup",
					Controllers: []string{"cpu", "cpuset", "hugetlb", "memory", "pids"},
				},
				CgroupKill: yes, CloneIntoCgroup: yes, PidfdExitInfo: yes, UserNamespaces: yes, MemfdExec: yes,
				Openat2: yes, MountSetattr: yes, HostMounts: yes, SharedRoot: yes, Seccomp: yes, AppArmor: yes,
				SELinux: yes, Nftables: yes, NetworkDevices: yes, CapabilitiesHeld: append([]string{"CAP_SYS_RESOURCE"}, essential...),
				Limits: probe.Limits{NofileHard: 1 << 20, InotifyInstances: 1024, InotifyWatches: 1 << 20, PipeUserPagesSoft: 16384},
			},
			Root:    probe.Place{Dir: "/var/lib", Filesystem: "ext4", Free: 50 << 30},
			State:   probe.Place{Dir: "/run", Filesystem: "tmpfs"},
			Overlay: probe.Overlay{Mount: yes, Volatile: yes, AppendLower: yes, IDMapped: yes},

			AppArmorProfile: yes, SELinux: true,
		}
	}
	tests := []struct {
		situation string
		change    func(*report)
		check     string // the one check that is not ok; "" for none
		state     checkState
	}{
		{"a good host", func(*report) {}, "", stateOK},
		{"an old kernel", func(r *report) { r.Kernel.Version = probe.Version{Major: 5, Minor: 10} }, "kernel", stateFail},
		{"cgroup v1", func(r *report) { r.Kernel.Cgroup.Mode = probe.CgroupV1 }, "cgroups", stateNote},
		{"systemd", func(r *report) { r.Kernel.Cgroup.Systemd = true }, "", stateOK},
		{"no overlay", func(r *report) { r.Overlay.Mount = probe.Feature{Why: "x"} }, "overlay", stateFail},
		{"not root", func(r *report) {
			r.Kernel.CapabilitiesMissing = r.Kernel.CapabilitiesHeld
			r.Kernel.CapabilitiesHeld = nil
		}, "capabilities", stateFail},
		{"no CAP_SYS_RESOURCE", func(r *report) {
			r.Kernel.CapabilitiesHeld = essential
			r.Kernel.CapabilitiesMissing = []string{"CAP_SYS_RESOURCE"}
		}, "capabilities", stateNote},
		{"few open files", func(r *report) { r.Kernel.Limits.NofileHard = 1024 }, "open files", stateNote},
		{"no apparmor_parser", func(r *report) { r.AppArmorProfile = probe.Feature{Why: "x"} }, "AppArmor profile", stateNote},
		{"SELinux that is not used", func(r *report) { r.SELinux = false }, "SELinux", stateNote},
		{"root on a tmpfs", func(r *report) { r.Root.Filesystem = "tmpfs" }, "root directory", stateNote},
		{"state on a disk", func(r *report) { r.State.Filesystem = "ext4" }, "state directory", stateNote},
	}
	for _, tt := range tests {
		t.Run(tt.situation, func(t *testing.T) {
			r := good()
			tt.change(r)
			r.judge()
			for _, c := range r.Checks {
				want := stateOK
				if c.Name == tt.check {
					want = tt.state
				}
				if c.State != want || (want != stateOK) != (c.Consequence != "") {
					t.Errorf("got %+v, want it %s", c, want)
				}
			}
			if r.OK != (tt.state != stateFail) {
				t.Errorf("OK is %v", r.OK)
			}
		})
	}
}
