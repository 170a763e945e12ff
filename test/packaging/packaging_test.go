package packaging

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestPackage is one life of the package on a machine: each part begins with what
// the one before has left.
func TestPackage(t *testing.T) {
	older, newer := os.Getenv("BERTH_DEB"), os.Getenv("BERTH_NEWER_DEB")
	if older == "" || newer == "" {
		t.Skip("takes a whole machine: make package-test runs it in the VM")
	}
	m := newMachine(t)
	before := m.sh("find /etc /usr /var/lib -xdev | sort")
	var pods []*counting

	m.sub("install", func(m *machine) {
		m.sh("dpkg -i " + older)
		m.serving()
		if m.sh("systemctl is-enabled berth.service") != "enabled" {
			m.Error("the unit is not enabled")
		}
		if ready := m.networkReady(); ready {
			m.Error("the network is ready without a configuration")
		}
		// Taken up without a restart.
		m.write("/etc/berth/config.d/10-network.toml", "[cni]\nbuiltin_network = true\n")
		m.until("the network is ready", func() error {
			if !m.networkReady() {
				return fmt.Errorf("it is not")
			}
			return nil
		})
	})
	m.serveImage()
	m.sub("run", func(m *machine) {
		pods = m.startPods(podCount())
		m.alone()
	})
	if t.Failed() {
		t.FailNow()
	}
	m.sub("upgrade", func(m *machine) {
		daemon, monitor := m.mainPid(), m.monitor()
		m.sh("dpkg -i " + newer)
		if m.serving() == daemon {
			m.Error("the old daemon runs")
		}
		want := strings.Fields(m.sh("berth version"))[1]
		if now := m.monitor(); now.Pid != monitor.Pid || now.Build != want || now.Build == monitor.Build {
			m.Errorf("the monitor was %+v and is %+v, want version %s in the same process", monitor, now, want)
		}
		m.goOn(pods)
		m.alone()
	})
	m.sub("reload", func(m *machine) {
		daemon := m.mainPid()
		m.write("/etc/berth/config.d/20-pin.toml", "[image]\npinned = [\""+busybox+"\"]\n")
		m.sh("systemctl reload berth")
		m.until("the image is pinned", func() error {
			st, err := m.images.ImageStatus(m.ctx(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: busybox}})
			if err == nil && !st.Image.Pinned {
				err = fmt.Errorf("it is not")
			}
			return err
		})
		if m.serving() != daemon {
			m.Error("a reload has restarted the daemon")
		}
	})
	m.sub("restart", func(m *machine) {
		m.sh("systemctl restart berth")
		m.serving()
		m.goOn(pods)
		m.alone()
	})
	m.sub("stop and start", func(m *machine) {
		m.sh("systemctl stop berth")
		m.countOn(pods)
		m.sh("systemctl start berth")
		m.serving()
		m.goOn(pods)
	})
	m.sub("killed", func(m *machine) {
		daemon, monitor := m.mainPid(), m.monitor()
		m.sh("systemctl kill --kill-whom=all -s KILL berth.service")
		m.until("systemd starts another", func() error {
			if pid := m.mainPid(); pid == daemon || pid == 0 {
				return fmt.Errorf("the daemon is %d", pid)
			}
			return nil
		})
		m.serving()
		if m.monitor() != monitor {
			m.Error("what was done to the unit has reached the monitor")
		}
		m.goOn(pods)
	})
	m.sub("monitor killed", func(m *machine) {
		monitor := m.monitor().Pid
		unix.Kill(monitor, unix.SIGKILL)
		m.until("there is another monitor", func() error {
			if now := m.monitor().Pid; now == monitor {
				return fmt.Errorf("it is %d", now)
			}
			return nil
		})
		m.goOn(pods)
		m.alone()
	})
	m.sub("watchdog", func(m *machine) {
		m.write("/etc/systemd/system/berth.service.d/watchdog.conf", "[Service]\nWatchdogSec=6\nTimeoutAbortSec=2\n")
		m.sh("systemctl daemon-reload && systemctl restart berth")
		daemon := m.serving()
		time.Sleep(15 * time.Second) // more than two turns: fed, it does nothing
		if m.serving() != daemon {
			m.Error("the watchdog has killed a daemon that lives")
		}
		unix.Kill(daemon, unix.SIGSTOP)
		m.until("the watchdog replaces a daemon that hangs", func() error {
			if pid := m.mainPid(); pid == daemon || pid == 0 {
				return fmt.Errorf("the daemon is %d", pid)
			}
			return nil
		})
		m.serving()
		if !strings.Contains(m.sh("journalctl -b --no-pager -u berth.service"), "Watchdog timeout") {
			m.Error("it was not the watchdog")
		}
		m.goOn(pods)
		m.sh("rm -r /etc/systemd/system/berth.service.d && systemctl daemon-reload")
	})
	m.sub("remove", func(m *machine) {
		m.sh("dpkg -r berth")
		for _, c := range pods {
			if _, err := c.last(); err != nil {
				m.Error(err)
			}
		}
		m.nothingRuns()
		for _, kept := range []string{"/etc/berth/config.toml", "/etc/berth/config.d/10-network.toml", "/var/lib/berth/images"} {
			if _, err := os.Stat(kept); err != nil {
				m.Errorf("removed, not purged: %v", err)
			}
		}
	})
	m.sub("install again", func(m *machine) {
		m.sh("dpkg -i " + newer)
		m.serving()
		if c, err := m.startPod("again"); err != nil {
			m.Error("an image of before does not run:", err)
		} else {
			m.goOn([]*counting{c})
		}
	})
	m.sub("purge", func(m *machine) {
		m.sh("dpkg -P berth")
		m.nothingRuns()
		// What dpkg, systemd and the test itself keep.
		after := m.sh("find /etc /usr /var/lib -xdev | sort")
		for path := range strings.SplitSeq(after, "\n") {
			if !strings.Contains("\n"+before+"\n", "\n"+path+"\n") && strings.Contains(path, "berth") {
				m.Errorf("left: %s", path)
			}
		}
		if out, err := exec.Command("systemctl", "cat", "berth.service").CombinedOutput(); err == nil {
			m.Errorf("there is still a unit: %s", out)
		}
	})
}

// podCount is 20, or what a shorter try wants.
func podCount() int {
	if n, err := strconv.Atoi(os.Getenv("BERTH_PODS")); err == nil {
		return n
	}
	return 20
}

func (m *machine) networkReady() bool {
	m.Helper()
	st, err := m.rt.Status(m.ctx(), &runtimeapi.StatusRequest{})
	if err != nil {
		m.Fatal(err)
	}
	for _, c := range st.Status.Conditions {
		if c.Type == runtimeapi.NetworkReady {
			return c.Status
		}
	}
	return false
}

// nothingRuns looks for whatever Berth makes while it runs.
func (m *machine) nothingRuns() {
	m.Helper()
	for what, command := range map[string]string{
		"processes":         `ps -eo pid,args | grep -E '[b]erth-|[b]erth serve|[s]leep 1$' | grep -v packaging.test || :`,
		"units":             `systemctl list-units --all --plain --no-legend '*berth*' | grep -v not-found || :`,
		"mounts":            `grep berth /proc/mounts || :`,
		"the state":         `ls -d /run/berth 2>/dev/null || :`,
		"cgroups":           `find /sys/fs/cgroup -name '*berth*' | head`,
		"rules":             `nft list tables | grep berth || :`,
		"interfaces":        `ip -o link | grep -E 'berth0|veth' || :`,
		"network addresses": `ls /var/lib/berth/cni/networks/*/[0-9f]* 2>/dev/null || :`,
	} {
		var out string
		for range 50 { // processes that were killed are about to be reaped
			if out = m.sh(command); out == "" {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if out != "" {
			m.Errorf("%s are left:\n%s", what, out)
		}
	}
}
