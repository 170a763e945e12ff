package e2e

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// driver is the cgroup driver of the daemons here. systemd is for hosts that it
// runs, such as that of test/vm.
var driver = cmp.Or(os.Getenv("BERTH_E2E_CGROUP_DRIVER"), "cgroupfs")

// slow is how many times slower than usual this machine is, when it is emulated.
var slow = func() time.Duration {
	n, _ := strconv.Atoi(os.Getenv("BERTH_E2E_SLOW"))
	return time.Duration(max(n, 1))
}()

// patience is how long something may take here that takes limit at most elsewhere.
func patience(limit time.Duration) time.Duration {
	return max(limit, min(limit*slow, 3*time.Minute))
}

// topCgroup is the cgroup parent of one node, in the words of the driver.
func topCgroup(n int) string {
	if driver == "systemd" {
		return fmt.Sprintf("/berthe2e%xn%d.slice", runID, n)
	}
	return fmt.Sprintf("/berth-e2e-%x-%d", runID, n)
}

// inCgroup is the cgroup of a container below its pod's parent.
func inCgroup(parent, id string) string {
	if driver != "systemd" {
		return parent + "/" + id
	}
	found, _ := filepath.Glob("/sys/fs/cgroup" + parent + "/berth-*.scope/" + id)
	if len(found) != 1 {
		return parent + "/no-scope/" + id
	}
	return strings.TrimPrefix(found[0], "/sys/fs/cgroup")
}

// ofPod says whether a cgroup is there for a pod and not for a container.
func ofPod(dir string) bool {
	return strings.HasSuffix(dir, ".scope") || filepath.Base(dir) == "hold" || strings.HasSuffix(dir, ".slice")
}
