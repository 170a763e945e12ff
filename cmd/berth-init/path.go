package main

import "syscall"

// how is struct open_how of openat2(2).
type how struct{ flags, _, resolve uint64 } // and a mode for new files

func openat2(dir int, path string, flags int, resolve uint64) (int, error) {
	h := &how{flags: uint64(flags | syscall.O_CLOEXEC), resolve: resolve}
	for tries := 0; ; tries++ {
		n, err := call(sysOpenat2, fd(dir), str(path), ptr(h), 24)
		// EAGAIN: somebody renamed a directory on the way, so that the kernel
		// cannot be sure that ".." stays inside.
		if err != syscall.EAGAIN || tries == 64 {
			return n, err
		}
	}
}

// inRoot opens a path of the container, without rights to its content (O_PATH)
// unless flags say otherwise.
func (c *container) inRoot(path string, flags int) (int, error) {
	return openat2(c.root, path, flags, resolveInRoot|resolveNoMagiclinks)
}

// maxLinks bounds the attempts at one path: as many as the symbolic links that
// the kernel follows in one.
const maxLinks = 40

// directory opens a directory of the container and makes it, with its parents,
// where it is missing.
func (c *container) directory(path string) (int, error) {
	links := maxLinks
	return c.open(path, true, &links)
}

// target opens the place for a mount: a directory or a file, made when missing.
func (c *container) target(path string, directory bool) (int, error) {
	links := maxLinks
	return c.open(path, directory, &links)
}

func (c *container) open(path string, directory bool, links *int) (int, error) {
	for ; *links > 0; *links-- {
		n, err := c.inRoot(path, oPath)
		if err != syscall.ENOENT {
			return n, err
		}
		parent, name := split(path)
		if name == ".." {
			return -1, err
		}
		dir, err := c.open(parent, true, links)
		if err != nil {
			return -1, err
		}
		link, err := makeEntry(dir, name, directory)
		closeFd(dir)
		if err != nil {
			return -1, err
		}
		// A symbolic link to nothing, such as the /etc/resolv.conf of a distribution
		// with systemd-resolved: what it points to is made, in the root.
		switch {
		case link == "": // it is there now
		case link[0] == '/':
			path = link
		default:
			path = parent + "/" + link
		}
	}
	return -1, syscall.ELOOP
}

// makeEntry makes a file or directory. When a symbolic link is in its place it
// returns what that says.
func makeEntry(dir int, name string, directory bool) (link string, err error) {
	if directory {
		_, err = call(syscall.SYS_MKDIRAT, fd(dir), str(name), 0o755)
	} else {
		var n int
		n, err = openat(fd(dir), name, syscall.O_CREAT|syscall.O_EXCL|syscall.O_NOFOLLOW, 0o644)
		if err == nil {
			closeFd(n)
		}
	}
	if err != syscall.EEXIST {
		return "", err
	}
	b := make([]byte, 4096)
	n, err := call(syscall.SYS_READLINKAT, fd(dir), str(name), ptr(&b[0]), uintptr(len(b)))
	if err == syscall.EINVAL {
		return "", nil // no link: somebody else made it meanwhile
	}
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// split cuts the last name off a path; the parent of a single name is "/".
func split(path string) (parent, name string) {
	end := len(path)
	for end > 0 && path[end-1] == '/' {
		end--
	}
	start := end
	for start > 0 && path[start-1] != '/' {
		start--
	}
	if parent = path[:start]; parent == "" {
		parent = "/"
	}
	return parent, path[start:end]
}
