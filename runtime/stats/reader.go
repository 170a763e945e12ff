package stats

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Finder says where a controller's files of a container are; "" is nowhere.
// The controller "" stands for the cgroup2 itself. A Cgroup's Dir is one.
type Finder func(controller string) (dir string, v2 bool)

// Reader reads one cgroup. It is safe for concurrent use.
type Reader struct {
	mu    sync.Mutex
	files map[string]file // guarded by mu; nil once closed
	// read gives every Sample, more what ReadAll adds.
	read, more []func(*Reader, *Sample, []byte) error
}

// file is one file of the cgroup. Those without a descriptor are opened for
// each read.
type file struct {
	path string
	fd   int  // -1 is none
	sure bool // it was there at Open: if it is gone so is the cgroup
}

// open counts the descriptors kept by all readers, room is how many they may be.
var (
	open atomic.Int64
	room = sync.OnceValue(func() int64 {
		var l unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
			return 0
		}
		return int64(min(l.Cur, 1<<30)) / 2
	})
)

// Open keeps the cgroup's files. Those that the kernel does not have are left
// out; without a single one there is no such cgroup: ErrNotFound.
func Open(find Finder) (*Reader, error) {
	r := &Reader{files: map[string]file{}}
	for _, s := range sources {
		dir, v2 := find(s.controller)
		if dir == "" || v2 != s.v2 {
			continue
		}
		opened := 0
		for _, name := range s.files {
			n, err := r.keep(dir, name)
			if err != nil {
				r.Close()
				return nil, fmt.Errorf("open stats: %w", err)
			}
			opened += n
		}
		if opened > 0 {
			r.read = append(r.read, s.read)
		}
	}
	if len(r.files) == 0 {
		return nil, fmt.Errorf("open stats: no files: %w", errdefs.ErrNotFound)
	}
	for _, s := range details {
		dir, v2 := find(s.controller)
		if dir == "" || v2 != s.v2 {
			continue
		}
		for _, name := range s.files {
			if _, ok := r.files[name]; !ok {
				r.files[name] = file{path: dir + "/" + name, fd: -1}
			}
		}
		r.more = append(r.more, s.read)
	}
	return r, nil
}

func (r *Reader) keep(dir, name string) (int, error) {
	if _, ok := r.files[name]; ok {
		return 1, nil
	}
	f := file{path: dir + "/" + name, sure: true}
	var err error
	f.fd, err = linux.OpenKernel(f.path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) { // PSI is off: the second
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if open.Add(1) > room() {
		open.Add(-1)
		_ = linux.Close(f.fd)
		f.fd = -1
	}
	r.files[name] = f
	return 1, nil
}

// Close gives the descriptors back.
func (r *Reader) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.files {
		if f.fd >= 0 {
			_ = linux.Close(f.fd)
			open.Add(-1)
		}
	}
	r.files, r.read, r.more = nil, nil, nil
}

// buffers are large enough for every file but io.stat of a host with hundreds of
// disks.
var buffers = sync.Pool{New: func() any { b := make([]byte, 16<<10); return &b }}

// Read samples the cgroup, without the details; ErrNotFound when it is gone.
func (r *Reader) Read() (Sample, error) { return r.sample(false) }

// ReadAll samples the cgroup with its details.
func (r *Reader) ReadAll() (Sample, error) { return r.sample(true) }

func (r *Reader) sample(all bool) (Sample, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.files == nil {
		return Sample{}, fmt.Errorf("read stats: closed: %w", errdefs.ErrNotFound)
	}
	s := Sample{At: time.Now()}
	steps := r.read
	if all {
		s.Detail = &Detail{}
		steps = append(steps[:len(steps):len(steps)], r.more...)
	}
	for _, read := range steps {
		if err := read(r, &s, *buf); err != nil {
			// What a file of a removed cgroup answers: kept, and not kept.
			if errors.Is(err, unix.ENODEV) || errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
			}
			return Sample{}, fmt.Errorf("read stats: %w", err)
		}
	}
	return s, nil
}

// bytes reads a file; ok is false when the kernel has none.
func (r *Reader) bytes(name string, buf []byte) (b []byte, ok bool, err error) {
	f, ok := r.files[name]
	if !ok {
		return nil, false, nil
	}
	if f.fd >= 0 {
		b, err = linux.PreadRecord(f.fd, f.path, buf)
	} else if b, err = linux.ReadKernel(f.path, buf); !f.sure && errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if errors.Is(err, unix.EOPNOTSUPP) { // PSI turned off for this cgroup (cgroup.pressure)
		return nil, false, nil
	}
	return b, err == nil, err
}

// number reads a file that has one value; "max" and v1's words for it (the
// largest number of pages) are 0.
func (r *Reader) number(name string, buf []byte) (n uint64, ok bool, err error) {
	b, ok, err := r.bytes(name, buf)
	if !ok || err != nil {
		return 0, false, err
	}
	n, _ = number(b)
	if n >= 1<<62 {
		n = 0
	}
	return n, true, nil
}

// value is number, nil without the file.
func (r *Reader) value(name string, buf []byte) (*uint64, error) {
	n, ok, err := r.number(name, buf)
	if !ok {
		return nil, err
	}
	return &n, nil
}
