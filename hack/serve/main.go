package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const next = `
Berth is serving on %[1]s. In another terminal:

  export CONTAINER_RUNTIME_ENDPOINT=unix://%[1]s
  crictl info
  crictl pull registry.k8s.io/e2e-test-images/busybox:1.29-2
  pod=$(crictl runp docs/examples/pod.json)
  ctr=$(crictl create $pod docs/examples/container.json docs/examples/pod.json)
  crictl start $ctr
  crictl exec -s $ctr uname -a
  crictl logs $ctr
  crictl stopp $pod && crictl rmp $pod

(crictl: https://github.com/kubernetes-sigs/cri-tools. Stop Berth with ^C; its
containers go on, and the next "make run" finds them.)

`

func main() {
	if err := serve(os.Args[1:]); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(max(exit.ExitCode(), 1)) // the daemon has said why
		}
		fmt.Fprintln(os.Stderr, "make run:", err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	if os.Geteuid() != 0 {
		return errors.New("a container runtime needs root: sudo make run")
	}
	socket := os.Getenv("BERTH_SOCKET")
	if socket == "" {
		socket = "/run/berth/berth.sock"
	}
	notify, dir, err := listenNotify()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	args = append([]string{"serve", "--builtin-network", "--listen", socket}, args...)
	daemon := exec.Command("bin/berth", args...)
	daemon.Stdout, daemon.Stderr = os.Stdout, os.Stderr
	daemon.Env = append(os.Environ(), "NOTIFY_SOCKET="+notify.LocalAddr().String())

	// ^C reaches the daemon by itself, as it is in the same process group; a
	// SIGTERM is passed on. Either way the daemon decides when it is over.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	if err := daemon.Start(); err != nil {
		return err
	}
	go func() {
		for s := range signals {
			if s == unix.SIGTERM {
				daemon.Process.Signal(s)
			}
		}
	}()
	go func() {
		if waitReady(notify) {
			fmt.Printf(next, socket)
		}
	}()
	return daemon.Wait()
}

// listenNotify opens a socket as systemd's, see sd_notify(3).
func listenNotify() (*net.UnixConn, string, error) {
	dir, err := os.MkdirTemp("", "berth-run-")
	if err != nil {
		return nil, "", err
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: filepath.Join(dir, "notify")})
	if err != nil {
		os.RemoveAll(dir)
		return nil, "", err
	}
	return conn, dir, nil
}

func waitReady(notify *net.UnixConn) bool {
	buf := make([]byte, 4096)
	for {
		n, err := notify.Read(buf)
		if err != nil {
			return false
		}
		for line := range bytes.Lines(buf[:n]) {
			if string(bytes.TrimSpace(line)) == "READY=1" {
				return true
			}
		}
	}
}
