package main

import (
	"os"

	"github.com/berth-cri/berth/runtime/monitor"
	"github.com/berth-cri/berth/runtime/oci"
	"github.com/berth-cri/berth/runtime/oci/embedded"
)

// version is set by the linker; see the Makefile.
var version = "dev"

func main() {
	p := monitor.Program{
		Version: version,
		Runtime: func(initPath string) (oci.Runtime, error) { return embedded.NewLauncher(initPath) },
	}
	os.Exit(p.Run(os.Args[1:]))
}
