package main

import (
	"os"

	"github.com/berth-cri/berth/runtime/monitor"
	"github.com/berth-cri/berth/runtime/oci"
	"github.com/berth-cri/berth/runtime/oci/embedded"
	"github.com/berth-cri/berth/runtime/oci/external"
)

// version is set by the linker; see the Makefile.
var version = "dev"

func main() {
	if len(os.Args) > 1 && os.Args[1] == external.HelperName {
		os.Exit(external.Helper(os.Args[2:]))
	}
	p := monitor.Program{
		Version: version,
		Runtime: func(initPath string) (oci.Runtime, error) {
			own, err := embedded.NewLauncher(initPath)
			if err != nil {
				return nil, err
			}
			return &external.Launcher{Embedded: own, Helper: "/proc/self/exe"}, nil
		},
	}
	os.Exit(p.Run(os.Args[1:]))
}
