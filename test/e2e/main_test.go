package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// programs is where TestMain has built the three binaries.
var programs string

func TestMain(m *testing.M) {
	if pluginProgram() {
		os.Exit(runPluginProgram())
	}
	if os.Getuid() != 0 {
		fmt.Println("end-to-end tests need root: skipped")
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "berth-e2e-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	// A machine without Go, such as a small VM, gets the programs ready-made.
	if programs = os.Getenv("BERTH_PROGRAMS"); programs == "" {
		programs = filepath.Join(dir, "bin")
		if err := build(programs); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	if err := serveImages(); err != nil {
		fmt.Println("registry:", err)
		return 1
	}
	return m.Run()
}

func build(to string) error {
	build := exec.Command("go", "build", "-trimpath", "-o", to+"/", "./cmd/...")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}
