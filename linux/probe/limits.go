package probe

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits bound how much fits on a node. -1 means not known.
type Limits struct {
	NofileSoft        uint64 `json:"nofile_soft"`
	NofileHard        uint64 `json:"nofile_hard"`
	InotifyInstances  int64  `json:"inotify_instances"`
	InotifyWatches    int64  `json:"inotify_watches"`
	PipeUserPagesSoft int64  `json:"pipe_user_pages_soft"`
	UserNamespaces    int64  `json:"user_namespaces"`
	PidMax            int64  `json:"pid_max"`
}

func limits() Limits {
	l := Limits{
		InotifyInstances:  sysctl("fs/inotify/max_user_instances"),
		InotifyWatches:    sysctl("fs/inotify/max_user_watches"),
		PipeUserPagesSoft: sysctl("fs/pipe-user-pages-soft"),
		UserNamespaces:    sysctl("user/max_user_namespaces"),
		PidMax:            sysctl("kernel/pid_max"),
	}
	var r unix.Rlimit
	// Go raises the soft limit at start; this is what the process may use.
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil {
		l.NofileSoft, l.NofileHard = r.Cur, r.Max
	}
	return l
}

func sysctl(name string) int64 {
	text, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return -1
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return -1
	}
	return n
}
