package embedded

import "github.com/berth-cri/berth/runtime/oci"

// The words of package oci, so that who uses this runtime needs one import.
type (
	Prepared  = oci.Prepared
	Namespace = oci.Namespace
	Placement = oci.Placement
	HardLimit = oci.HardLimit
	Start     = oci.Start
	Process   = oci.Process
	StepError = oci.StepError
)

// Overlay is the root file system of a container as layers. berth-init mounts
// it, inside the container's mount namespace.
type Overlay struct {
	Lower []string `json:"lower"` // directories, topmost first
	Upper string   `json:"upper"`
	Work  string   `json:"work"`

	// Volatile leaves out every sync of the upper directory (5.10). After a
	// crash of the host such an upper has to be discarded.
	Volatile bool `json:"volatile,omitempty"`
}
