package spec

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultPath is what images without a PATH expect (Docker's).
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment lets the request override the image, and the image Berth.
func environment(in *Input, s *specs.Spec) error {
	hostname := in.Pod.Config.GetHostname()
	if hostname == "" || in.Pod.Namespaces[specs.UTSNamespace] == "" {
		hostname = in.Node.Host.Hostname
	}
	env := variables{}
	env.set(defaultPath)
	if in.Config.GetTty() {
		env.set("TERM=xterm")
	}
	env.set("HOSTNAME=" + hostname)
	for _, e := range in.Image.Env {
		env.set(e)
	}
	for _, e := range in.Config.GetEnvs() {
		env.set(e.GetKey() + "=" + string(e.GetValue()))
	}
	// runc does the same just before it starts the program: shells and tools
	// fail in odd ways without it.
	if !env.has("HOME") {
		home := in.User.Home
		if home == "" {
			home = "/"
		}
		env.set("HOME=" + home)
	}
	s.Process.Env = env.list
	return nil
}

// variables is an environment in order of first appearance.
type variables struct{ list []string }

func (v *variables) index(key string) int {
	for i, e := range v.list {
		if k, _, _ := strings.Cut(e, "="); k == key {
			return i
		}
	}
	return -1
}

func (v *variables) has(key string) bool { return v.index(key) >= 0 }

// set adds or replaces KEY=VALUE; an entry without "=" removes the variable.
func (v *variables) set(entry string) {
	key, _, valued := strings.Cut(entry, "=")
	i := v.index(key)
	switch {
	case i < 0 && valued:
		v.list = append(v.list, entry)
	case i >= 0 && valued:
		v.list[i] = entry
	case i >= 0:
		v.list = append(v.list[:i], v.list[i+1:]...)
	}
}
