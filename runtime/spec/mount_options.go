package spec

import (
	"fmt"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// mountOptions may be asked for on top of what else is said about a mount
// (KEP-5855): they take rights away, or say when access times are written. An "r"
// in front is for what is mounted below as well.
var mountOptions = []string{"noexec", "nodev", "nosuid", "nosymfollow", "noatime", "nodiratime", "relatime"}

func validateMountOptions(field string, m *runtimeapi.Mount) error {
	for i, word := range m.GetMountOptions() {
		if !isMountOption(word) {
			return invalid(fmt.Sprintf("%s.mount_options[%d]", field, i), word,
				"must be one of "+strings.Join(mountOptions, ", ")+`, or one of these with an "r" in front`)
		}
	}
	return nil
}

func isMountOption(word string) bool {
	for _, known := range mountOptions {
		if word == known || word == "r"+known {
			return true
		}
	}
	return false
}
