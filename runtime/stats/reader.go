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

// Parts are what may be asked of a Reader beside the use of processors and
// memory.
type Parts uint8

// The parts. All of them together make a Sample with nothing left out.
const (
	Tasks  Parts = 1 << iota
	Limit        // of the memory
	Detail       // Sample.Detail; these files are opened for each read

	All = Tasks | Limit | Detail
)

// Reader reads one cgroup. It is safe for concurrent use.
type Reader struct {
	mu      sync.Mutex
	files   map[string]*file // guarded by mu; nil once closed
	sources []*source        // of this host
}

// file is one file of the cgroup. It is opened at the first read.
type file struct {
	path  string
	keep  bool
	fd    int  // -1 is none
	found bool // once: if it is gone so is the cgroup
	none  bool // the kernel has no such file
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

// NewReader makes a reader of the cgroup whose files find finds. It reads
// nothing yet.
func NewReader(find Finder) *Reader {
	r := &Reader{files: map[string]*file{}}
	for i := range sources {
		s := &sources[i]
		dir, v2 := find(s.controller)
		if dir == "" || v2 != s.v2 {
			continue
		}
		r.sources = append(r.sources, s)
		for _, name := range s.files {
			if r.files[name] == nil {
				r.files[name] = &file{path: dir + "/" + name, keep: s.part&Detail == 0, fd: -1}
			}
		}
	}
	return r
}

// Close gives the descriptors back.
func (r *Reader) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.files {
		f.close()
	}
	r.files = nil
}

// buffers are large enough for every file but io.stat of a host with hundreds of
// disks.
var buffers = sync.Pool{New: func() any { b := make([]byte, 16<<10); return &b }}

// Read samples the cgroup with the parts asked for; ErrNotFound when it is gone.
func (r *Reader) Read(parts Parts) (Sample, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.files == nil {
		return Sample{}, fmt.Errorf("read stats: closed: %w", errdefs.ErrNotFound)
	}
	s := Sample{At: time.Now()}
	if parts&Detail != 0 {
		s.Detail = &Details{}
	}
	for _, source := range r.sources {
		if source.part&^parts != 0 {
			continue
		}
		if err := source.read(r, &s, *buf); err != nil {
			return Sample{}, fmt.Errorf("read stats: %w", err)
		}
	}
	for _, f := range r.files {
		if f.found {
			return s, nil
		}
	}
	return Sample{}, fmt.Errorf("read stats: no files: %w", errdefs.ErrNotFound)
}

// bytes reads a file; ok is false when the kernel has none.
func (r *Reader) bytes(name string, buf []byte) (b []byte, ok bool, err error) {
	f := r.files[name]
	if f == nil || f.none {
		return nil, false, nil
	}
	if b, err = f.read(buf); err == nil {
		f.found = true
		return b, true, nil
	}
	switch {
	case errors.Is(err, unix.EOPNOTSUPP): // PSI is off, or was turned off for this cgroup (cgroup.pressure)
		return nil, false, nil
	case errors.Is(err, fs.ErrNotExist) && !f.found:
		f.none = true
		return nil, false, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV): // not kept, and kept
		err = fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	return nil, false, err
}

func (f *file) read(buf []byte) ([]byte, error) {
	fd := f.fd
	if fd < 0 {
		var err error
		if fd, err = linux.OpenKernel(f.path); err != nil {
			return nil, err
		}
		if f.keep && open.Add(1) > room() {
			open.Add(-1)
			f.keep = false
		}
		if f.keep {
			f.fd = fd
		} else {
			defer linux.Close(fd)
		}
	}
	return linux.PreadRecord(fd, f.path, buf)
}

func (f *file) close() {
	if f.fd >= 0 {
		_ = linux.Close(f.fd)
		f.fd = -1
		open.Add(-1)
	}
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
