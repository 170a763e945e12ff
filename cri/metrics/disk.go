package metrics

import (
	"os"
	"path"
	"strconv"
	"sync"

	"github.com/berth-cri/berth/runtime/stats"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Filesystem is the one that writable layers are on.
type Filesystem struct {
	Device             string // "/dev/vda1"
	Size               uint64 // bytes
	Inodes, FreeInodes uint64
}

// ReadFilesystem asks the file system of a directory.
func ReadFilesystem(dir string) (*Filesystem, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	f := &Filesystem{Size: st.Blocks * uint64(st.Bsize), Inodes: st.Files, FreeInodes: st.Ffree}
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(dir))
	if err != nil {
		return nil, err
	}
	longest := -1
	for _, m := range mounts {
		if len(m.Mountpoint) >= longest { // of two on one place, the later one hides the other
			f.Device, longest = m.Source, len(m.Mountpoint)
		}
	}
	return f, nil
}

// disk is a value of the writable layer's file system.
func disk(name, help string, get func(*Disk) *uint64) metric {
	return metric{name: name, help: help, kind: gauge, extra: []string{"device"}, values: func(s *Subject, emit emit) {
		if s.Disk == nil {
			return
		}
		if n := get(s.Disk); n != nil {
			emit(*n, s.Disk.Device)
		}
	}}
}

// device is a counter for each block device.
func device(name, help string, get func(*stats.Device) uint64) metric {
	return metric{name: name, help: help, kind: counter, extra: []string{"device"}, values: func(s *Subject, emit emit) {
		for _, d := range s.detail().Devices {
			emit(get(&d), deviceName(d.Major, d.Minor))
		}
	}}
}

var diskMetrics = []metric{
	disk("container_fs_inodes_free", "Number of available Inodes.", func(d *Disk) *uint64 { return &d.FreeInodes }),
	disk("container_fs_inodes_total", "Number of Inodes.", func(d *Disk) *uint64 { return &d.Inodes }),
	disk("container_fs_limit_bytes", "Number of bytes that can be consumed by the container on this filesystem.", func(d *Disk) *uint64 { return &d.Size }),
	disk("container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", func(d *Disk) *uint64 { return d.Used }),
	device("container_fs_reads_bytes_total", "Cumulative count of bytes read.", func(d *stats.Device) uint64 { return d.ReadBytes }),
	device("container_fs_reads_total", "Cumulative count of reads completed.", func(d *stats.Device) uint64 { return d.Reads }),
	device("container_fs_writes_bytes_total", "Cumulative count of bytes written.", func(d *stats.Device) uint64 { return d.WriteBytes }),
	device("container_fs_writes_total", "Cumulative count of writes completed.", func(d *stats.Device) uint64 { return d.Writes }),
	{
		name: "container_blkio_device_usage_total", help: "Blkio device bytes usage.", kind: counter,
		extra: []string{"device", "major", "minor", "operation"},
		values: func(s *Subject, emit emit) {
			for _, d := range s.detail().Devices {
				name, major, minor := deviceName(d.Major, d.Minor), strconv.FormatUint(d.Major, 10), strconv.FormatUint(d.Minor, 10)
				emit(d.ReadBytes, name, major, minor, "Read")
				emit(d.WriteBytes, name, major, minor, "Write")
				emit(d.DiscardBytes, name, major, minor, "Discard")
			}
		},
	},
}

// deviceNames remembers those that were found: "8:0" → "/dev/sda".
var deviceNames sync.Map

func deviceName(major, minor uint64) string {
	id := strconv.FormatUint(major, 10) + ":" + strconv.FormatUint(minor, 10)
	if name, ok := deviceNames.Load(id); ok {
		return name.(string)
	}
	to, err := os.Readlink("/sys/dev/block/" + id)
	if err != nil {
		return "" // it was taken out
	}
	name := "/dev/" + path.Base(to)
	deviceNames.Store(id, name)
	return name
}
