package monitor

import (
	"sync"

	"golang.org/x/sys/unix"
)

// seesForeignStatus says whether /proc/PID/stat shows this process the exit code
// of any zombie. Without CAP_SYS_PTRACE the kernel may print 0 instead, which is
// no status to believe.
var seesForeignStatus = sync.OnceValue(func() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_PTRACE) != 0
})
