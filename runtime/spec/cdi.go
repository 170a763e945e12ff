package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"tags.cncf.io/container-device-interface/pkg/parser"
)

// cdiAnnotation begins the annotations by which kubelets before 1.28 asked for
// devices.
const cdiAnnotation = "cdi.k8s.io/"

// CDIDevices are the names of the devices of the Container Device Interface that a
// request asks for, each once.
func CDIDevices(c *runtimeapi.ContainerConfig) ([]string, error) {
	var names, fields []string
	for i, d := range c.GetCDIDevices() {
		names, fields = append(names, d.GetName()), append(fields, fmt.Sprintf("CDI_devices[%d]", i))
	}
	for _, key := range slices.Sorted(maps.Keys(c.GetAnnotations())) {
		if !strings.HasPrefix(key, cdiAnnotation) {
			continue
		}
		for name := range strings.SplitSeq(c.Annotations[key], ",") {
			names, fields = append(names, name), append(fields, "annotation "+key)
		}
	}
	var once []string
	for i, n := range names {
		if _, _, _, err := parser.ParseQualifiedName(n); err != nil {
			return nil, invalid(fields[i], n, "must be VENDOR/CLASS=DEVICE: "+err.Error())
		}
		if !slices.Contains(once, n) {
			once = append(once, n)
		}
	}
	return once, nil
}

// cdiDevices makes the edits that vendors describe for their devices.
func cdiDevices(in *Input, s *specs.Spec) error {
	names, err := CDIDevices(in.Config)
	if err != nil || len(names) == 0 {
		return err
	}
	if in.Resolved.CDI == nil {
		return fmt.Errorf("CDI devices %q were not prepared: %w", names, errdefs.ErrInternal)
	}
	return in.Resolved.CDI(s)
}
