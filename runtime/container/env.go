package container

import (
	"slices"
	"strings"
	"unicode/utf8"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// rawEnv are the values of variables that are not text, by their index.
func rawEnv(c *runtimeapi.ContainerConfig) map[int][]byte {
	var raw map[int][]byte
	for i, e := range c.GetEnvs() {
		if !utf8.Valid(e.GetValue()) {
			if raw == nil {
				raw = map[int][]byte{}
			}
			raw[i] = e.GetValue()
		}
	}
	return raw
}

// restoreEnv puts them back into a configuration that was read.
func restoreEnv(c *runtimeapi.ContainerConfig, raw map[int][]byte) {
	for i, v := range raw {
		if i >= 0 && i < len(c.GetEnvs()) && c.Envs[i] != nil {
			c.Envs[i].Value = v
		}
	}
}

// exactEnv is the environment of a spec that was read from its file, with the
// values that no JSON can hold as the request gave them: there they are bytes.
func exactEnv(env []string, asked []*runtimeapi.KeyValue) []string {
	env = slices.Clone(env)
	for _, e := range asked {
		if utf8.Valid(e.GetValue()) {
			continue
		}
		key := e.GetKey() + "="
		if i := slices.IndexFunc(env, func(v string) bool { return strings.HasPrefix(v, key) }); i >= 0 {
			env[i] = key + string(e.GetValue())
		}
	}
	return env
}
