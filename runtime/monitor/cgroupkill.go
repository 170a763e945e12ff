package monitor

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
)

const (
	sigkill     = unix.SIGKILL
	killTimeout = 10 * time.Second
)

// killCgroup kills everything in a cgroup and below. On cgroup v2 the kernel does
// it (cgroup.kill, 5.14); elsewhere it is repeated until the cgroup is empty,
// for a process can fork while it is being killed.
func killCgroup(dir string) error {
	err := linux.WriteKernel(filepath.Join(dir, "cgroup.kill"), "1")
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A frozen process (v1) dies only when it is thawed.
	linux.WriteKernel(filepath.Join(dir, "freezer.state"), "THAWED")
	for wait, end := time.Millisecond, time.Now().Add(killTimeout); ; wait = min(2*wait, 100*time.Millisecond) {
		n, err := killOnce(dir)
		if err != nil || n == 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d processes in %s outlive SIGKILL", n, dir)
		}
		time.Sleep(wait)
	}
}

// killOnce signals every process of the tree once and returns how many there
// were. Zombies are not counted: the cgroup file lists those of a group whose
// other threads still live only.
func killOnce(dir string) (int, error) {
	total := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.IsDir() {
			return err
		}
		b, err := linux.ReadKernel(filepath.Join(path, "cgroup.procs"), nil)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		for _, line := range bytes.Fields(b) {
			// 0 is a process of a PID namespace that we cannot see, and a signal
			// to "process 0" would go to our own group.
			pid, perr := strconv.Atoi(string(line))
			if perr != nil || pid <= 1 || pid == os.Getpid() {
				continue
			}
			total++
			unix.Kill(pid, sigkill)
		}
		return err
	})
	return total, err
}
