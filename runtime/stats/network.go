package stats

import (
	"bytes"
	"fmt"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/linux/namespace"
	"golang.org/x/sys/unix"
)

// Network is what the interfaces of one network namespace have carried, as a
// process inside sees it.
type Network struct {
	At         time.Time
	Interfaces []Interface // without lo, in the kernel's order
}

// Interface counts since the interface was made.
type Interface struct {
	Name   string
	Rx, Tx Traffic
}

// Traffic is one direction of an interface.
type Traffic struct {
	Bytes, Packets, Errors, Dropped uint64
}

// Networks reads the namespaces at the paths, one after the other on a thread
// that steps from one into the next: 16 µs each, whatever the network plugin,
// and no descriptor that would keep a namespace alive is held. The result has a
// nil for each path that could not be read; err says why the last one was not.
func Networks(paths []string) (all []*Network, err error) {
	all = make([]*Network, len(paths))
	thread := namespace.OnThread(func() error {
		buf := buffers.Get().(*[]byte)
		defer buffers.Put(buf)
		for i, path := range paths {
			n, e := readNetwork(path, *buf)
			if e != nil {
				err = fmt.Errorf("network stats of %s: %w", path, e)
				continue
			}
			all[i] = n
		}
		return nil
	})
	if thread != nil {
		err = thread
	}
	return all, err
}

// readNetwork moves the thread into the namespace and leaves it there.
func readNetwork(path string, buf []byte) (*Network, error) {
	fd, err := linux.OpenKernel(path)
	if err != nil {
		return nil, err
	}
	err = linux.Setns(fd, unix.CLONE_NEWNET)
	_ = linux.Close(fd)
	if err != nil {
		return nil, err
	}
	n := &Network{At: time.Now()}
	b, err := linux.ReadKernel("/proc/thread-self/net/dev", buf)
	if err != nil {
		return nil, err
	}
	n.Interfaces = interfaces(b)
	return n, nil
}

// interfaces reads proc_net_dev(5): after two lines of headings
// "  eth0: " and eight numbers of what was received, eight of what was sent.
func interfaces(b []byte) []Interface {
	var all []Interface
	for line := range bytes.Lines(b) {
		// A name may hold a colon (an old alias), a number may not.
		colon := bytes.LastIndexByte(line, ':')
		if colon < 0 {
			continue // a heading
		}
		name := string(bytes.TrimSpace(line[:colon]))
		fields := bytes.Fields(line[colon+1:])
		if name == "lo" || len(fields) < 12 {
			continue
		}
		var n [12]uint64
		for i := range n {
			n[i], _ = number(fields[i])
		}
		all = append(all, Interface{
			Name: name,
			Rx:   Traffic{Bytes: n[0], Packets: n[1], Errors: n[2], Dropped: n[3]},
			Tx:   Traffic{Bytes: n[8], Packets: n[9], Errors: n[10], Dropped: n[11]},
		})
	}
	return all
}
