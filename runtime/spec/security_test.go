package spec

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestCapabilities(t *testing.T) {
	show := func(s *specs.Spec) any {
		c := s.Process.Capabilities
		if !slices.Equal(c.Bounding, c.Effective) || !slices.Equal(c.Bounding, c.Permitted) || !slices.Equal(c.Inheritable, c.Ambient) {
			return "the sets disagree"
		}
		short := func(list []string) string { return strings.ReplaceAll(strings.Join(list, " "), "CAP_", "") }
		out := short(c.Bounding)
		if slices.Equal(c.Bounding, allHeld()) {
			out = "everything"
		}
		out = strings.Replace(out, short(defaultCapabilities), "defaults", 1)
		return out + "; " + short(c.Ambient)
	}
	caps := func(add, drop, ambient string) func(*Input) {
		return secure(func(s *security) {
			s.Capabilities = &runtimeapi.Capability{AddCapabilities: strings.Fields(add), DropCapabilities: strings.Fields(drop), AddAmbientCapabilities: strings.Fields(ambient)}
		})
	}
	holding := func(list ...string) func(*Input) {
		return func(in *Input) { in.Node.Host.Capabilities = list }
	}
	tryEach(t, show, map[string]outcome{
		"nothing asked":                 {in: on(), want: "defaults; "},
		"one more":                      {in: on(caps("NET_ADMIN", "", "")), want: "defaults NET_ADMIN; "},
		"with prefix, in lower case":    {in: on(caps("cap_net_admin", "cap_KILL", "")), want: "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT AUDIT_WRITE NET_ADMIN; "},
		"one that is there already":     {in: on(caps("CHOWN", "", "")), want: "defaults; "},
		"all":                           {in: on(caps("ALL", "", "")), want: "everything; "},
		"none":                          {in: on(caps("", "all", "")), want: "; "},
		"none but one":                  {in: on(caps("NET_BIND_SERVICE", "ALL", "")), want: "NET_BIND_SERVICE; "},
		"ambient, besides the defaults": {in: on(caps("", "", "NET_ADMIN")), want: "defaults NET_ADMIN; NET_ADMIN"},
		"ambient, nothing else":         {in: on(caps("", "ALL", "NET_BIND_SERVICE")), want: "NET_BIND_SERVICE; NET_BIND_SERVICE"},
		"added and ambient":             {in: on(caps("SYS_TIME", "ALL", "SYS_TIME")), want: "SYS_TIME; SYS_TIME"},
		"dropping takes from all sets":  {in: on(caps("SYS_TIME", "SYS_TIME", "SYS_TIME")), want: "defaults; "},
		"privileged":                    {in: on(privileged, caps("", "ALL", "")), want: "everything; "},
		"a Berth that holds few":        {in: on(holding("CAP_CHOWN", "CAP_KILL")), want: "CHOWN KILL; "},
		"all, of a Berth with few":      {in: on(holding("CAP_KILL", "CAP_BPF"), caps("ALL", "", "")), want: "KILL BPF; "},
		"one that Berth does not have":  {in: on(caps("SYS_RESOURCE", "", "")), kind: errdefs.IsFailedPrecondition, want: "CAP_SYS_RESOURCE"},
		"ambient without having it":     {in: on(caps("", "", "WAKE_ALARM")), kind: errdefs.IsFailedPrecondition, want: "CAP_WAKE_ALARM"},
		"one that does not exist":       {in: on(caps("", "FLY", "")), kind: errdefs.IsInvalidArgument, want: "drop_capabilities[0]"},
		"an empty name":                 {in: on(secure(func(s *security) { s.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{""}} })), kind: errdefs.IsInvalidArgument, want: "add_capabilities[0]"},
	})
}

func TestSeccompStep(t *testing.T) {
	of := func(kind runtimeapi.SecurityProfile_ProfileType, ref string) func(*Input) {
		return secure(func(s *security) { s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: kind, LocalhostRef: ref} })
	}
	old := func(text string) func(*Input) {
		//lint:ignore SA1019 old clients still set it
		return secure(func(s *security) { s.SeccompProfilePath = text })
	}
	file := func(text string) func(*Input) { return func(in *Input) { in.Resolved.SeccompProfile = []byte(text) } }
	admin := secure(func(s *security) { s.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"SYS_ADMIN"}} })
	const (
		standard   = runtimeapi.SecurityProfile_RuntimeDefault
		unconfined = runtimeapi.SecurityProfile_Unconfined
		local      = runtimeapi.SecurityProfile_Localhost
	)
	show := func(s *specs.Spec) any {
		p := s.Linux.Seccomp
		if p == nil {
			return "none"
		}
		var mount, lsm bool
		for _, c := range p.Syscalls {
			mount = mount || slices.Contains(c.Names, "mount") && c.Action == specs.ActAllow
			lsm = lsm || slices.Contains(c.Names, "lsm_get_self_attr") && c.Action == specs.ActAllow
		}
		return fmt.Sprint(p.DefaultAction, " mount ", mount, " lsm ", lsm)
	}
	docker := `{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64"}],"syscalls":[{"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}}]}`
	tryEach(t, show, map[string]outcome{
		"nothing asked":                  {in: on(), want: "none"},
		"the default":                    {in: on(of(standard, "")), want: "SCMP_ACT_ERRNO mount false lsm true"},
		"the default, with SYS_ADMIN":    {in: on(of(standard, ""), admin), want: "SCMP_ACT_ERRNO mount true lsm true"},
		"the default in the old way":     {in: on(old("runtime/default")), want: "SCMP_ACT_ERRNO mount false lsm true"},
		"a default of the node's own":    {in: on(of(standard, ""), func(in *Input) { in.Node.SeccompDefault = []byte(docker) }), want: "SCMP_ACT_ERRNO mount false lsm false"},
		"unconfined":                     {in: on(of(unconfined, "")), want: "none"},
		"unconfined in the old way":      {in: on(old("unconfined")), want: "none"},
		"the new way beats the old":      {in: on(old("runtime/default"), of(unconfined, "")), want: "none"},
		"privileged":                     {in: on(privileged, of(standard, "")), want: "none"},
		"a file":                         {in: on(of(local, "/p.json"), file(`{"defaultAction":"SCMP_ACT_LOG"}`)), want: "SCMP_ACT_LOG mount false lsm false"},
		"a file with the old prefix":     {in: on(of(local, "localhost//p.json"), file(`{"defaultAction":"SCMP_ACT_LOG"}`)), want: "SCMP_ACT_LOG mount false lsm false"},
		"a file in the old way":          {in: on(old("localhost//p.json"), file(`{"defaultAction":"SCMP_ACT_LOG"}`)), want: "SCMP_ACT_LOG mount false lsm false"},
		"Docker's conditions hold":       {in: on(of(local, "/p.json"), file(docker)), want: "SCMP_ACT_ERRNO mount false lsm false"},
		"Docker's conditions hold, met":  {in: on(of(local, "/p.json"), file(docker), admin), want: "SCMP_ACT_ERRNO mount true lsm false"},
		"a file that is no profile":      {in: on(of(local, "/p.json"), file(`{`)), kind: errdefs.IsInvalidArgument, want: "/p.json"},
		"a file without a default":       {in: on(of(local, "/p.json"), file(`{}`)), kind: errdefs.IsInvalidArgument, want: "defaultAction"},
		"a file with a hole":             {in: on(of(local, "/p.json"), file(`{"defaultAction":"SCMP_ACT_LOG","syscalls":[null]}`)), kind: errdefs.IsInvalidArgument, want: "syscalls[0]"},
		"a file that is far too large":   {in: on(of(local, "/p.json"), file(strings.Repeat(" ", maxProfile+1))), kind: errdefs.IsInvalidArgument, want: "larger"},
		"a relative file":                {in: on(of(local, "p.json")), kind: errdefs.IsInvalidArgument, want: "absolute"},
		"no file":                        {in: on(of(local, "")), kind: errdefs.IsInvalidArgument, want: "localhost_ref"},
		"a file for the default":         {in: on(of(standard, "/p.json")), kind: errdefs.IsInvalidArgument, want: "localhost_ref"},
		"an unknown kind":                {in: on(of(9, "")), kind: errdefs.IsInvalidArgument, want: "profile_type"},
		"an unknown word in the old way": {in: on(old("default")), kind: errdefs.IsInvalidArgument, want: "seccomp_profile_path"},
		"a kernel without filters":       {in: on(of(standard, ""), func(in *Input) { in.Node.Host.Seccomp = false }), kind: errdefs.IsFailedPrecondition, want: "no seccomp"},
	})
}

// noAppArmor is a host without.
type noAppArmor struct{}

func (noAppArmor) Absent() error {
	return fmt.Errorf("no AppArmor here: %w", errdefs.ErrFailedPrecondition)
}
func (noAppArmor) NoDefault() error         { return noAppArmor{}.Absent() }
func (noAppArmor) Default() (string, error) { return "", noAppArmor{}.Absent() }
func (noAppArmor) Loaded(string) error      { return noAppArmor{}.Absent() }

// withAppArmor is a host that has the profile "p" and a default.
type withAppArmor struct{ noDefault, broken error }

func (withAppArmor) Absent() error              { return nil }
func (a withAppArmor) NoDefault() error         { return a.noDefault }
func (a withAppArmor) Default() (string, error) { return "berth", a.broken }
func (withAppArmor) Loaded(profile string) error {
	if profile != "p" {
		return fmt.Errorf("%q is not loaded: %w", profile, errdefs.ErrNotFound)
	}
	return nil
}

func TestAppArmorProfile(t *testing.T) {
	of := func(kind runtimeapi.SecurityProfile_ProfileType, ref string) *security {
		return &security{Apparmor: &runtimeapi.SecurityProfile{ProfileType: kind, LocalhostRef: ref}}
	}
	//lint:ignore SA1019 critest still sets it
	old := func(profile string) *security { return &security{ApparmorProfile: profile} }
	priv := func(s *security) *security {
		s.Privileged = true
		return s
	}
	const (
		standard   = runtimeapi.SecurityProfile_RuntimeDefault
		unconfined = runtimeapi.SecurityProfile_Unconfined
		local      = runtimeapi.SecurityProfile_Localhost
	)
	noParser := withAppArmor{noDefault: fmt.Errorf("no parser: %w", errdefs.ErrFailedPrecondition)}
	broken := withAppArmor{broken: fmt.Errorf("syntax error: %w", errdefs.ErrFailedPrecondition)}
	both := of(local, "p")
	//lint:ignore SA1019 critest still sets it
	both.ApparmorProfile = "localhost/other"
	for situation, tc := range map[string]struct {
		host AppArmor
		sc   *security
		want string // of an error: a word in it
		kind func(error) bool
	}{
		"nothing asked":                          {withAppArmor{}, nil, "berth", nil},
		"the default":                            {withAppArmor{}, of(standard, ""), "berth", nil},
		"the default in the old way":             {withAppArmor{}, old("runtime/default"), "berth", nil},
		"unconfined":                             {withAppArmor{}, of(unconfined, ""), "unconfined", nil},
		"unconfined in the old way":              {withAppArmor{}, old("unconfined"), "unconfined", nil},
		"a profile":                              {withAppArmor{}, of(local, "p"), "p", nil},
		"a profile with the old prefix":          {withAppArmor{}, of(local, "localhost/p"), "p", nil},
		"a profile in the old way":               {withAppArmor{}, old("localhost/p"), "p", nil},
		"a profile in both ways":                 {withAppArmor{}, both, "p", nil},
		"a profile that is not loaded":           {withAppArmor{}, of(local, "other"), "other", errdefs.IsNotFound},
		"unconfined as if it were a profile":     {withAppArmor{}, of(local, "unconfined"), "unconfined", errdefs.IsNotFound},
		"no profile's name":                      {withAppArmor{}, of(local, ""), "localhost_ref", errdefs.IsInvalidArgument},
		"a name for the default":                 {withAppArmor{}, of(standard, "p"), "localhost_ref", errdefs.IsInvalidArgument},
		"a kind of the future":                   {withAppArmor{}, of(9, ""), "profile_type", errdefs.IsInvalidArgument},
		"an old word that nobody knows":          {withAppArmor{}, old("p"), "apparmor_profile", errdefs.IsInvalidArgument},
		"privileged":                             {withAppArmor{}, priv(&security{}), "", nil},
		"privileged, with the default":           {withAppArmor{}, priv(of(standard, "")), "", nil},
		"privileged, but with a profile":         {withAppArmor{}, priv(of(local, "p")), "p", nil},
		"privileged, with one that is not there": {withAppArmor{}, priv(of(local, "other")), "other", errdefs.IsNotFound},
		"nothing asked, nothing there":           {noAppArmor{}, nil, "", nil},
		"unconfined, nothing there":              {noAppArmor{}, of(unconfined, ""), "", nil},
		"the default, nothing there":             {noAppArmor{}, of(standard, ""), "no AppArmor", errdefs.IsFailedPrecondition},
		"a profile, nothing there":               {noAppArmor{}, of(local, "p"), "no AppArmor", errdefs.IsFailedPrecondition},
		"nothing asked, no parser":               {noParser, nil, "", nil},
		"the default, no parser":                 {noParser, of(standard, ""), "no parser", errdefs.IsFailedPrecondition},
		"a profile, no parser":                   {noParser, of(local, "p"), "p", nil},
		"nothing asked, no way to load":          {broken, nil, "syntax error", errdefs.IsFailedPrecondition},
	} {
		t.Run(situation, func(t *testing.T) {
			got, err := findAppArmor(tc.sc, tc.host)
			if tc.kind != nil {
				if err == nil || !tc.kind(err) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "security_context.apparmor") {
					t.Errorf("got %q, %v", got, err)
				}
			} else if err != nil || got != tc.want {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
		})
	}
	tryEach(t, func(s *specs.Spec) any { return s.Process.ApparmorProfile }, map[string]outcome{
		"none": {in: on(), want: ""},
		"one":  {in: on(func(in *Input) { in.Resolved.AppArmorProfile = "p" }), want: "p"},
	})
}

func TestSELinuxStep(t *testing.T) {
	asked := func(o *runtimeapi.SELinuxOption) func(*Input) {
		return secure(func(s *security) { s.SelinuxOptions = o })
	}
	level := func(l string) func(*Input) { return asked(&runtimeapi.SELinuxOption{Level: l}) }
	bad := func(l string) outcome {
		return outcome{in: on(level(l)), kind: errdefs.IsInvalidArgument, want: "selinux_options.level"}
	}
	tryEach(t, func(s *specs.Spec) any { return s.Process.SelinuxLabel + " " + s.Linux.MountLabel }, map[string]outcome{
		"a host without":            {in: on(asked(&runtimeapi.SELinuxOption{User: "u", Role: "r", Type: "spc_t", Level: "s0"})), want: " "},
		"labels":                    {in: on(func(in *Input) { in.ProcessLabel, in.MountLabel = "p", "m" }), want: "p m"},
		"labels without a word":     {in: on(asked(&runtimeapi.SELinuxOption{})), want: " "},
		"a level":                   {in: on(level("s0:c4,c5")), want: " "},
		"a range of categories":     {in: on(level("s0:c0.c1023,c3")), want: " "},
		"a range of levels":         {in: on(level("s0-s15:c0.c1023")), want: " "},
		"a comma for a colon":       bad("s0,c4,c5"),
		"no sensitivity":            bad("c4"),
		"categories without end":    bad("s0:c4,"),
		"a category of five digits": bad("s0:c10000"),
		"an option of a mount":      bad(`s0",dev="`),
		"a type with a colon":       {in: on(asked(&runtimeapi.SELinuxOption{Type: "a_t:s0"})), kind: errdefs.IsInvalidArgument, want: "selinux_options.type"},
		"a user with a quote":       {in: on(asked(&runtimeapi.SELinuxOption{User: `u"`})), kind: errdefs.IsInvalidArgument, want: "selinux_options.user"},
		"a role of two words":       {in: on(asked(&runtimeapi.SELinuxOption{Role: "a b"})), kind: errdefs.IsInvalidArgument, want: "selinux_options.role"},
	})
}
