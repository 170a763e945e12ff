package seccomp

// On i386 socket and System V IPC calls also go through two multiplexers, whose
// first argument is one of these (include/uapi/linux/net.h and ipc.h). A rule for
// such a call has to hold on both roads, or the profile could be walked round.
var (
	socketcalls = []syscall{
		{"accept", 5}, {"accept4", 18}, {"bind", 2}, {"connect", 3}, {"getpeername", 7},
		{"getsockname", 6}, {"getsockopt", 15}, {"listen", 4}, {"recv", 10}, {"recvfrom", 12},
		{"recvmmsg", 19}, {"recvmsg", 17}, {"send", 9}, {"sendmmsg", 20}, {"sendmsg", 16},
		{"sendto", 11}, {"setsockopt", 14}, {"shutdown", 13}, {"socket", 1}, {"socketpair", 8},
	}
	ipcCalls = []syscall{
		{"msgctl", 14}, {"msgget", 13}, {"msgrcv", 12}, {"msgsnd", 11}, {"semctl", 3},
		{"semget", 2}, {"semop", 1}, {"semtimedop", 4}, {"shmat", 21}, {"shmctl", 24},
		{"shmdt", 22}, {"shmget", 23},
	}
)

// multiplexed returns the multiplexer's number on i386 and the selector of name.
func multiplexed(name string) (number uint32, selector uint64, ok bool) {
	mux := "socketcall"
	s, ok := find(socketcalls, name)
	if !ok {
		mux = "ipc"
		s, ok = find(ipcCalls, name)
	}
	if !ok {
		return 0, 0, false
	}
	number, ok = find(syscalls386, mux)
	return number, uint64(s), ok
}
