package spec

import (
	"fmt"
	"maps"
	"slices"

	"github.com/berth-cri/berth/linux/namespace"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// validateSysctls lets a pod set only what belongs to its own namespaces: any
// other key would change the host.
func validateSysctls(sysctls map[string]string, ns *runtimeapi.NamespaceOption) error {
	var own []namespace.Kind
	if ns.GetNetwork() == runtimeapi.NamespaceMode_POD {
		own = append(own, namespace.Net, namespace.UTS)
	}
	if ns.GetIpc() == runtimeapi.NamespaceMode_POD {
		own = append(own, namespace.IPC)
	}
	for _, key := range slices.Sorted(maps.Keys(sysctls)) {
		if err := namespace.CheckSysctl(key, own); err != nil {
			return fmt.Errorf("linux.sysctls: %w", err)
		}
		if err := noNUL(fmt.Sprintf("linux.sysctls[%s]", key), sysctls[key]); err != nil {
			return err
		}
	}
	return nil
}
