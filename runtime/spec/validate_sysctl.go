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
		// The kubelet writes either form; slashes allow dots in interface names.
		name := key
		if first := strings.IndexAny(name, "./"); first >= 0 && name[first] == '/' {
			name = strings.NewReplacer("/", ".", ".", "/").Replace(name)
		}
		if name == "" || strings.Contains(name, "..") || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.ContainsAny(name, "\x00 \n") {
			return invalid(field, value, "not the name of a sysctl")
		}
		mode, kind := sysctlNamespace(name, ns)
		if kind == "" {
			return invalid(field, value, "not a sysctl of a namespace: it would change the host")
		}
		if mode == runtimeapi.NamespaceMode_NODE {
			return invalid(field, value, "the pod uses the host's "+kind+" namespace")
		}
	}
	return nil
}

// sysctlNamespace says which namespace a sysctl belongs to, and whose the pod's
// is.
func sysctlNamespace(name string, ns *runtimeapi.NamespaceOption) (runtimeapi.NamespaceMode, string) {
	switch {
	case strings.HasPrefix(name, "net."):
		return ns.GetNetwork(), "network"
	case strings.HasPrefix(name, "fs.mqueue."), strings.HasPrefix(name, "kernel.shm"), strings.HasPrefix(name, "kernel.msg"), name == "kernel.sem":
		return ns.GetIpc(), "IPC"
	case name == "kernel.domainname", name == "kernel.hostname":
		return ns.GetNetwork(), "UTS" // it goes with the network
	}
	return 0, ""
}
