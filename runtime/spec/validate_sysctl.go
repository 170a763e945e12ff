package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// validateSysctls lets a pod set only what belongs to its own namespaces: any
// other key would change the host.
func validateSysctls(sysctls map[string]string, ns *runtimeapi.NamespaceOption) error {
	for _, key := range slices.Sorted(maps.Keys(sysctls)) {
		field := fmt.Sprintf("linux.sysctls[%s]", key)
		value := sysctls[key]
		if err := noNUL(field, value); err != nil {
			return err
		}
		path, ok := sysctlPath(key)
		if !ok {
			return invalid(field, value, "not the name of a sysctl")
		}
		mode, kind := sysctlNamespace(path, ns)
		if kind == "" {
			return invalid(field, value, "not a sysctl of a namespace: it would change the host")
		}
		if mode == runtimeapi.NamespaceMode_NODE {
			return invalid(field, value, "the pod uses the host's "+kind+" namespace")
		}
	}
	return nil
}

// sysctlPath is where a sysctl lies below /proc/sys. Its name comes with dots or
// with slashes, whichever stands first; the other one is then part of a name, as
// in net/ipv4/conf/eth0.1/forwarding.
func sysctlPath(key string) (path string, ok bool) {
	path = key
	if first := strings.IndexAny(key, "./"); first >= 0 && key[first] == '.' {
		path = strings.NewReplacer("/", ".", ".", "/").Replace(key)
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." {
			return "", false
		}
	}
	return path, !strings.ContainsAny(path, "\x00 \n")
}

// sysctlNamespace says which namespace a sysctl belongs to, and whose the pod's
// is.
func sysctlNamespace(path string, ns *runtimeapi.NamespaceOption) (runtimeapi.NamespaceMode, string) {
	switch {
	case strings.HasPrefix(path, "net/"):
		return ns.GetNetwork(), "network"
	case strings.HasPrefix(path, "fs/mqueue/"), strings.HasPrefix(path, "kernel/shm"), strings.HasPrefix(path, "kernel/msg"), path == "kernel/sem":
		return ns.GetIpc(), "IPC"
	case path == "kernel/domainname", path == "kernel/hostname":
		return ns.GetNetwork(), "UTS" // it goes with the network
	}
	return 0, ""
}
