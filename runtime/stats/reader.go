package stats

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/berth-cri/berth/linux"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Finder says where a controller's files of a container are; "" is nowhere.
// The controller "" stands for the cgroup2 itself. A Cgroup's Dir is one.
type Finder func(controller string) (dir string, v2 bool)

// Reader reads one container. It is safe for concurrent use.
type Reader struct {
	mu    sync.Mutex
	files map[string]kept // guarded by mu; nil once closed
	read  []func(*Reader, *Sample, []byte) error
}

type kept struct {
	fd   int
	path string
}

// Open keeps the container's files. Those that the kernel does not have are left
// out; without a single one there is no such container: ErrNotFound.
func Open(find Finder) (*Reader, error) {
	r := &Reader{files: map[string]kept{}}
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
	return r, nil
}

func (r *Reader) keep(dir, name string) (int, error) {
	if _, ok := r.files[name]; ok {
		return 1, nil
	}
	path := dir + "/" + name
	fd, err := linux.OpenKernel(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) { // PSI is off: the second
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	r.files[name] = kept{fd, path}
	return 1, nil
}

// Close gives the descriptors back.
func (r *Reader) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.files {
		_ = linux.Close(f.fd)
	}
	r.files, r.read = nil, nil
}

// buffers are large enough for every file but io.stat of a host with hundreds of
// disks.
var buffers = sync.Pool{New: func() any { b := make([]byte, 16<<10); return &b }}

// Read samples the container; ErrNotFound when its cgroup is gone.
func (r *Reader) Read() (Sample, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.files == nil {
		return Sample{}, fmt.Errorf("read stats: closed: %w", errdefs.ErrNotFound)
	}
	s := Sample{At: time.Now()}
	for _, read := range r.read {
		if err := read(r, &s, *buf); err != nil {
			if errors.Is(err, unix.ENODEV) { // what a kept file of a removed cgroup answers
				err = fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
			}
			return Sample{}, fmt.Errorf("read stats: %w", err)
		}
	}
	return s, nil
}

// bytes reads a kept file; ok is false when there is none.
func (r *Reader) bytes(name string, buf []byte) (b []byte, ok bool, err error) {
	f, ok := r.files[name]
	if !ok {
		return nil, false, nil
	}
	b, err = linux.PreadRecord(f.fd, f.path, buf)
	if errors.Is(err, unix.EOPNOTSUPP) { // PSI turned off for this cgroup (cgroup.pressure)
		return nil, false, nil
	}
	return b, err == nil, err
}

// number reads a kept file that has one value; "max" and v1's words for it
// (the largest number of pages) are 0.
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
