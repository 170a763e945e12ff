package monitor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berth-cri/berth/linux"
)

const (
	stdinFIFO  = "stdin"
	stdoutFIFO = "stdout"
	stderrFIFO = "stderr"

	// pipeSize keeps 500 containers within fs.pipe-user-pages-soft: beyond it
	// every new pipe of uid 0, in any container, shrinks to 8 KiB.
	pipeSize = 16 << 10
)

// MakeFIFOs makes the pipes of a container in its directory. They belong to
// the (host) user that the container's process runs as, so that it can open
// /dev/stdout and /proc/self/fd/1 again.
func MakeFIFOs(dir string, uid, gid int, stdin bool) error {
	for _, path := range FIFOs(dir, stdin) {
		if err := linux.Mkfifo(path, 0o600, uid, gid); err != nil {
			return fmt.Errorf("make %s pipe: %w", filepath.Base(path), err)
		}
	}
	return nil
}

// FIFOs are the paths of the pipes.
func FIFOs(dir string, stdin bool) []string {
	paths := []string{filepath.Join(dir, stdoutFIFO), filepath.Join(dir, stderrFIFO)}
	if stdin {
		paths = append(paths, filepath.Join(dir, stdinFIFO))
	}
	return paths
}

// Keepers are idle ends of a container's pipes. Whoever holds them never reads
// or writes: while a pipe has a reader its content outlives the writer, and the
// writer gets no SIGPIPE; while stdin has a writer the container sees no end of
// file. They bridge the moments without a monitor.
type Keepers struct{ Stdin, Stdout, Stderr *os.File }

// OpenKeepers opens the pipes that MakeFIFOs made and sizes them. A terminal's
// directory has none: then all are nil.
func OpenKeepers(dir string) (*Keepers, error) {
	k := &Keepers{}
	for _, p := range []struct {
		to   **os.File
		name string
		flag int
	}{
		{&k.Stdout, stdoutFIFO, unix.O_RDONLY},
		{&k.Stderr, stderrFIFO, unix.O_RDONLY},
		{&k.Stdin, stdinFIFO, unix.O_RDWR}, // a write-only end cannot be opened before there is a reader
	} {
		f, err := openKeeper(filepath.Join(dir, p.name), p.flag)
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			*p.to, err = f, linux.SetPipeSize(f, pipeSize)
		}
		if err != nil {
			k.Close()
			return nil, fmt.Errorf("keep %s pipe: %w", p.name, err)
		}
	}
	return k, nil
}

// CloseStdin lets the container see end of file, once the monitor's end
// (Supervisor.CloseStdin) is closed too.
func (k *Keepers) CloseStdin() {
	if k.Stdin != nil {
		k.Stdin.Close()
		k.Stdin = nil
	}
}

// OpenStdin opens one more writing end of a container's standard input, for a
// client that is attached. os.ErrNotExist: it has none, or none any more.
func OpenStdin(dir string) (*os.File, error) {
	return openEnd(filepath.Join(dir, stdinFIFO), unix.O_WRONLY|unix.O_NONBLOCK)
}

// RemoveStdin lets nobody open the standard input of a container again, before
// its last writing ends are closed for good.
func RemoveStdin(dir string) error {
	err := os.Remove(filepath.Join(dir, stdinFIFO))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// HasStdin says whether the standard input can still be opened.
func HasStdin(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, stdinFIFO))
	return err == nil
}

// Close closes what is open.
func (k *Keepers) Close() {
	for _, f := range []*os.File{k.Stdin, k.Stdout, k.Stderr} {
		if f != nil {
			f.Close()
		}
	}
	*k = Keepers{}
}

// openKeeper opens an end that Go's poller never hears of: it would wake its
// process at every write of the container.
func openKeeper(path string, flag int) (*os.File, error) {
	fd, err := openPipe(path, flag|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// openEnd opens an end: with O_NONBLOCK one for Go's poller, without it the
// container's.
func openEnd(path string, flag int) (*os.File, error) {
	fd, err := openPipe(path, flag)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// openPipe opens a pipe and nothing else: what is opened here is handed to
// containers.
func openPipe(path string, flag int) (int, error) {
	for {
		fd, err := unix.Open(path, flag|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: path, Err: err}
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
			unix.Close(fd)
			return -1, fmt.Errorf("%s is not a pipe", path)
		}
		return fd, nil
	}
}
