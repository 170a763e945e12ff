package apparmor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// machine is a host of files. Its parser adds what it is given to the list, and
// keeps the last profile and the arguments.
type machine struct {
	t *testing.T
	host
}

func newMachine(t *testing.T) *machine {
	dir := t.TempDir()
	m := &machine{t: t, host: host{
		enabled: filepath.Join(dir, "enabled"), profiles: filepath.Join(dir, "profiles"),
		policies: filepath.Join(dir, "apparmor.d"), label: filepath.Join(dir, "label"), parser: filepath.Join(dir, "parser"),
	}}
	m.write(m.enabled, "Y\n")
	m.write(m.profiles, "docker-default (enforce)\nmine (complain)\n")
	m.write(m.label, "unconfined\n")
	m.setParser(`cat >` + dir + `/profile; echo "$@" >` + dir + `/args; echo "berth-default (enforce)" >>` + m.profiles + `; echo >>` + dir + `/loads`)
	return m
}

func (m *machine) write(path, text string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) setParser(script string) { m.write(m.parser, "#!/bin/sh\n"+script+"\n") }

func (m *machine) read(name string) string {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(filepath.Dir(m.parser), name))
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	return string(b)
}

func TestAbsence(t *testing.T) {
	for situation, tc := range map[string]struct {
		change  func(*machine)
		disable bool
		want    string // "" for present
	}{
		"a host with AppArmor": {func(*machine) {}, false, ""},
		"disabled":             {func(*machine) {}, true, "configuration"},
		"none in the kernel":   {func(m *machine) { os.Remove(m.enabled) }, false, "no AppArmor"},
		"switched off at boot": {func(m *machine) { m.write(m.enabled, "N\n") }, false, "no AppArmor"},
		"in a container":       {func(m *machine) { m.nested = true }, false, "container"},
		"no securityfs":        {func(m *machine) { os.Remove(m.profiles) }, false, "list"},
	} {
		t.Run(situation, func(t *testing.T) {
			m := newMachine(t)
			tc.change(m)
			a := open(Options{Disable: tc.disable, Default: DefaultName}, m.host)
			err := a.Absent()
			if (err == nil) != (tc.want == "") || err != nil && (!errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if tc.want == "" {
				return
			}
			if err := a.Load(); err != nil {
				t.Errorf("nothing is to be loaded, and it is an error: %v", err)
			}
			if _, err := a.Default(); !errdefs.IsFailedPrecondition(err) {
				t.Errorf("the default: %v", err)
			}
			if err := a.Loaded("mine"); !errdefs.IsFailedPrecondition(err) {
				t.Errorf("a profile: %v", err)
			}
			if m.read("loads") != "" {
				t.Error("the parser was run")
			}
		})
	}
}

func TestDefaultIsLoaded(t *testing.T) {
	m := newMachine(t)
	a := open(Options{Default: DefaultName}, m.host)
	if err := a.Load(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(m.read("profile"), "profile berth-default ") || !strings.Contains(m.read("args"), "--replace") {
		t.Errorf("the parser got %s with\n%s", m.read("args"), m.read("profile"))
	}
	loads := func() int { return strings.Count(m.read("loads"), "\n") }
	for range 3 { // it is there: nothing to do
		if name, err := a.Default(); name != DefaultName || err != nil || loads() != 1 {
			t.Fatalf("got %q, %v after %d loads", name, err, loads())
		}
	}
	m.write(m.profiles, "mine (complain)\n") // as after aa-teardown
	if name, err := a.Default(); name != DefaultName || err != nil || loads() != 2 {
		t.Fatalf("unloaded: got %q, %v after %d loads", name, err, loads())
	}
	m.write(m.profiles, "")
	m.setParser(`echo "syntax error, line 3" >&2; exit 1`)
	if _, err := a.Default(); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "syntax error, line 3") {
		t.Errorf("a parser that fails: %v", err)
	}
	// A new daemon replaces what an earlier version has left.
	m.write(m.profiles, "berth-default (enforce)\n")
	m.setParser(`echo >>` + filepath.Dir(m.parser) + `/loads`)
	if err := open(Options{Default: DefaultName}, m.host).Load(); err != nil || loads() != 3 {
		t.Errorf("the next daemon: %v after %d loads", err, loads())
	}
}

func TestOtherDefaults(t *testing.T) {
	for situation, tc := range map[string]struct {
		name string
		kind func(error) bool
	}{
		"the administrator's":                {"mine", nil},
		"the administrator's, not loaded":    {"other", errdefs.IsNotFound},
		"part of another's name":             {"min", errdefs.IsNotFound},
		"a name that runs into the mode":     {"mine (", errdefs.IsNotFound},
		"none":                               {Unconfined, nil},
		"Berth's own, but there's no parser": {DefaultName, errdefs.IsFailedPrecondition},
	} {
		t.Run(situation, func(t *testing.T) {
			m := newMachine(t)
			m.parser = ""
			a := open(Options{Default: tc.name}, m.host)
			if a.Absent() != nil {
				t.Fatal(a.Absent())
			}
			name, err := a.Default()
			if tc.kind == nil && (err != nil || name != tc.name) || tc.kind != nil && !tc.kind(err) {
				t.Errorf("got %q, %v", name, err)
			}
			if loadErr := a.Load(); (loadErr == nil) != (err == nil) {
				t.Errorf("at the start: %v, later: %v", loadErr, err)
			}
			if got := a.NoDefault(); (got != nil) != (tc.name == DefaultName) {
				t.Errorf("no default: %v", got)
			}
			if err := a.Loaded("mine"); err != nil { // one that others have loaded needs no parser
				t.Errorf("a profile: %v", err)
			}
		})
	}
}

func TestProfileNamesItsHost(t *testing.T) {
	m := newMachine(t)
	bare, err := text(m.policies, "")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(bare, "@{PROC}=/proc/\n") || strings.Contains(bare, "include") || strings.Contains(bare, "abi <") {
		t.Errorf("without policy files:\n%s", bare)
	}
	for _, file := range []string{"abi/3.0", "tunables/global", "abstractions/base"} {
		m.write(filepath.Join(m.policies, file), "")
	}
	full, err := text(m.policies, "/usr/bin/my berth (enforce)\n")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(full, "abi <abi/3.0>,\ninclude <tunables/global>\n") || !strings.Contains(full, "{\n  include <abstractions/base>\n") || strings.Contains(full, "@{PROC}=") {
		t.Errorf("with policy files:\n%s", full)
	}
	if !strings.Contains(full, "  signal (receive) peer=\"/usr/bin/my berth\",\n") || strings.Count(bare, "peer=unconfined") != 1 {
		t.Errorf("a daemon that is confined itself:\n%s", full)
	}
}

// TestParserTakesProfile compiles both forms with the real parser; that needs
// no kernel with AppArmor.
func TestParserTakesProfile(t *testing.T) {
	parser := findParser()
	if parser == "" {
		t.Fatal("no apparmor_parser: run hack/install-test-tools")
	}
	for situation, tc := range map[string]struct{ policies, label string }{
		"with Debian's policy files":   {"/etc/apparmor.d", "unconfined"},
		"without":                      {t.TempDir(), ""},
		"of a daemon that is confined": {"/etc/apparmor.d", "some//child (complain)"},
	} {
		t.Run(situation, func(t *testing.T) {
			profile, err := text(tc.policies, tc.label)
			if err != nil {
				t.Fatal(err)
			}
			features := filepath.Join(t.TempDir(), "features")
			if err := os.WriteFile(features, []byte(kernelFeatures), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(parser, "--skip-kernel-load", "--skip-cache", "--warn=all", "--kernel-features="+features, "--names")
			cmd.Stdin = strings.NewReader(profile)
			said, err := cmd.CombinedOutput()
			if err != nil || strings.TrimSpace(string(said)) != DefaultName {
				t.Errorf("%v: %s\n%s", err, said, numbered(profile))
			}
		})
	}
}

// kernelFeatures is what a 6.1 kernel tells of its AppArmor.
const kernelFeatures = `query {label {multi_transaction {yes
}
data {yes
}
perms {allow deny audit quiet
}
}
}
signal {mask {hup int quit ill trap abrt bus fpe kill usr1 segv usr2 pipe alrm term stkflt chld cont stop stp ttin ttou urg xcpu xfsz vtalrm prof winch io pwr sys emt lost
}
}
ptrace {mask {read trace
}
}
caps {mask {chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore
}
}
network_v8 {af_mask {unix inet inet6 netlink packet
}
}
mount {mask {mount umount pivot_root
}
}
file {mask {create read write exec append mmap_exec link lock
}
}
domain {version {1.2
}
attach_conditions {xattr {yes
}
}
stack {yes
}
change_profile {yes
}
change_onexec {yes
}
}
policy {set_load {yes
}
versions {v8 {yes
}
v7 {yes
}
v6 {yes
}
v5 {yes
}
}
}
`

func numbered(text string) string {
	var b strings.Builder
	n := 0
	for line := range strings.Lines(text) {
		n++
		fmt.Fprintf(&b, "%3d %s", n, line)
	}
	return b.String()
}
