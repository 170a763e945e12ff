package config

import (
	"path"
	"path/filepath"
)

// RuntimeRoot is where the runtime of a handler keeps its state.
func (c *Config) RuntimeRoot(name string) string {
	if root := c.Runtimes[name].Root; root != "" {
		return root
	}
	return filepath.Join(c.State, "runtimes", name)
}

func (v *checker) runtimes() {
	if _, ok := v.c.Runtimes[v.c.DefaultRuntime]; !ok {
		v.bad("default_runtime", "%q is none of the handlers %q", v.c.DefaultRuntime, sortedKeys(v.c.Runtimes))
	}
	roots := map[string]string{}
	for _, name := range sortedKeys(v.c.Runtimes) {
		key, r := "runtimes."+name, v.c.Runtimes[name]
		if !handlerName.MatchString(name) {
			v.bad(key, "%q is no handler name: lower-case letters, digits and dashes, at most 63", name)
		}
		switch r.Type {
		case "embedded":
			if r.Path != "" {
				v.bad(key+".path", `the type "embedded" runs no program`)
			}
			if r.Root != "" {
				v.bad(key+".root", `the type "embedded" keeps no state of its own`)
			}
		case "oci":
			v.path(key+".path", r.Path)
			v.optionalPath(key+".root", r.Root)
			root := filepath.Clean(v.c.RuntimeRoot(name))
			if other := roots[root]; other != "" {
				v.bad(key+".root", "%q is that of handler %s", root, other)
			}
			roots[root] = name
		case "":
			v.bad(key+".type", `must be set: "embedded" or "oci"`)
		default:
			v.bad(key+".type", `%q is neither "embedded" nor "oci"`, r.Type)
		}
		v.patterns(key+".pod_annotations", r.PodAnnotations)
		v.patterns(key+".container_annotations", r.ContainerAnnotations)
		v.optionalPath(key+".cni_conf_dir", r.CNIConfDir)
	}
}

func (v *checker) patterns(key string, list []string) {
	for _, p := range list {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			v.bad(key, "%q is no pattern", p)
		}
	}
}
