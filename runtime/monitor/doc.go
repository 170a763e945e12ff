// Package monitor owns the processes of all containers of a node, from a
// program of its own (cmd/berth-monitor) that outlives the daemon.
//
// Owns: each container's process as its parent, its standard streams, its log
// (package logs), its exit code; the process of each exec. In the state
// directory monitor.sock, monitor.json, monitor.lock, monitor.log (1 MiB at most,
// and monitor.log.1 before it) and fdstore.sock, and in a container's directory
// carry and exit.json. The daemon makes the FIFOs there (MakeFIFOs).
//
// Always true:
//   - A container does not notice when the daemon, the monitor or both are
//     killed, and no line and no exit code is lost. (After both died in one
//     instant, the code of a container that was reaped before a new monitor
//     looked is known from Linux 6.15 on.)
//   - exit.json is there before anybody is told of the exit, and an exit is kept
//     until Forget.
//   - An exit is reported after the output was read to its end, or after two
//     seconds when something left behind by the container holds it open.
//   - A bad message gets an error as its answer; it never ends the monitor.
//
// # Messages
//
// SOCK_SEQPACKET, one JSON object per message of at most 64 KiB, descriptors
// beside it by SCM_RIGHTS. protocol.go is the whole protocol. Several clients
// may be connected. The first message of a client is "hello".
//
// # The container's end of its output
//
// It is opened write-only. Opened read-write it would never give SIGPIPE, even
// with no reader left at all, but then poll reports it readable whenever there
// is unread output: Python's asyncio (connect_write_pipe on stdout) takes that
// for a closed pipe and stops after its first line, and so does Twisted; and
// whoever reads descriptor 1 steals its own output from the log. Instead a pipe
// always has idle readers besides the monitor: the daemon's keepers, and the
// descriptor store.
//
// # Attached clients
//
// What the log reads goes to attached clients too, each through a file without a
// name of its own (attachment.go): writing there never waits for a reader, and
// what was read is given back to the disk. So a slow client holds up neither the
// container nor its log nor another client; one that lags 256 MiB behind is let
// go with an error. When the monitor dies, attachments end with an error: a new
// one would leave a gap that nobody sees.
//
// # The descriptor store
//
// "berth-monitor store" is a small process beside the monitor that reads
// nothing and waits for nothing: it holds copies of the output pipes' readers,
// the terminals' masters and the pidfds, and hands them to the next monitor. The
// monitor starts and replaces it, and it ends when no container runs and nobody
// is connected. It is what systemd's FDSTORE is, where there may be no systemd.
// The end of standard input is not in it: the daemon's keeper bridges the
// monitor's death, and when both die the container sees end of file.
//
// May import: the standard library, golang.org/x/sys, errdefs, linux,
// atomicfile, fault, runtime/oci, runtime/monitor/logs; and nothing from grpc,
// k8s.io, containernetworking or go-containerregistry, for the monitor stays
// small.
package monitor
