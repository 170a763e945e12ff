package apparmor

import (
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// policy is the default profile. What it forbids are ways from a container to the
// host that are there when something else fails, a mask or a mount's read-only
// flag: the same that containerd, CRI-O and Docker forbid.
//
// It names every place that it denies, since a rule that denies wins over
// "file", and rules cannot say "all but". A class such as [^1-9s] must exclude
// the slash too, or it would match one.
var policy = template.Must(template.New("profile").Parse(`
{{- if .ABI}}abi <{{.ABI}}>,
{{end}}
{{- if .Tunables}}include <{{.Tunables}}>
{{else}}@{PROC}=/proc/
{{end}}
# Made and loaded by Berth. attach_disconnected: descriptors that a container
# gets from outside of its mounts have paths without a root.
profile {{.Name}} flags=(attach_disconnected,mediate_deleted) {
{{- if .Base}}
  include <{{.Base}}>
{{- end}}

  network,
  capability,
  file,
  umount,

  # Stops come from Berth and from the administrator, whom nothing confines, from
  # an external runtime by the name of its own profile, and from within.
  signal (receive) peer=unconfined,
{{- range .Senders}}
  signal (receive) peer={{.}},
{{- end}}
  signal (send, receive) peer={{.Name}},
  ptrace (trace, tracedby, read, readby) peer={{.Name}},

  deny mount,

  # Of /proc a process may write to the directories of processes only, and to
  # the settings of its IPC namespace: msg*, sem*, shm*.
  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9s/],s[^y/],sy[^s/],sys[^/]}*/** w,
  deny @{PROC}/sys/{[^k/],k[^e/],ke[^r/]}** w,
  deny @{PROC}/sys/kernel/{[^ms/],m[^s/],ms[^g/],s[^he/],sh[^m/],se[^m/]}** w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,

  # Of /sys, to cgroups only: their mount says whether they are writable.
  deny /sys/{[^f/],f[^s/],fs/[^c/],fs/c[^g/],fs/cg[^r/]}** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/security/** rwklx,
  # The power meter tells of other people's keys (CVE-2020-8694).
  deny /sys/devices/virtual/powercap/** rwklx,
}
`))

// text is the default profile for a host with these policy files.
func text(policies, ownLabel string) (string, error) {
	have := func(name string) string {
		if _, err := os.Stat(filepath.Join(policies, name)); err != nil {
			return ""
		}
		return name
	}
	senders := []string{"runc", "crun"}
	// Whoever started Berth may have confined it: "NAME (enforce)".
	if own, _, _ := strings.Cut(strings.TrimSpace(ownLabel), " ("); own != "" && own != "unconfined" {
		senders = append(senders, `"`+own+`"`)
	}
	var b strings.Builder
	err := policy.Execute(&b, map[string]any{
		"Name": DefaultName, "Senders": senders,
		// The rules are written for this one. Without it the parser would take them
		// for whatever the kernel knows, such as a right to user namespaces (4.0).
		"ABI":      have("abi/3.0"),
		"Tunables": have("tunables/global"),
		"Base":     have("abstractions/base"),
	})
	return b.String(), err
}
