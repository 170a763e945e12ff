package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNotify is what systemd hears from the daemon: sd_notify(3).
func TestNotify(t *testing.T) {
	n := prepareNode(t)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.path("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	n.env = append(n.env, "NOTIFY_SOCKET="+n.path("notify"), "WATCHDOG_USEC=900000")
	// hear waits for a message that begins so; feeding the watchdog may come between.
	hear := func(want string) string {
		t.Helper()
		b := make([]byte, 4096)
		for {
			socket.SetReadDeadline(time.Now().Add(20 * time.Second))
			k, err := socket.Read(b)
			if err != nil {
				t.Fatalf("waiting for %q: %v\n%s", want, err, n.log.tail(20))
			}
			if got := string(b[:k]); strings.HasPrefix(got, want) {
				return got
			} else if got != "WATCHDOG=1" && !strings.HasPrefix(got, "STATUS=") {
				t.Fatalf("heard %q, waiting for %q", got, want)
			}
		}
	}
	n.start()
	hear("READY=1")
	hear("WATCHDOG=1")
	hear("WATCHDOG=1")

	n.cmd.Process.Signal(unix.SIGHUP)
	var at int64
	if _, err := fmt.Sscanf(hear("RELOADING=1\n"), "RELOADING=1\nMONOTONIC_USEC=%d", &at); err != nil || at == 0 {
		t.Errorf("the time of the reload: %d, %v", at, err)
	}
	hear("READY=1")
	n.write("config.d/bad.toml", "nonsense = 1\n")
	if got := hear("STATUS=Running with"); !strings.Contains(got, "bad.toml:1: nonsense: unknown key") {
		t.Errorf("heard %q", got)
	}
	os.Remove(n.path("config.d/bad.toml"))
	hear("STATUS=")

	n.cmd.Process.Signal(unix.SIGTERM)
	hear("STOPPING=1")
	n.cmd.Wait()
	n.start()
}
