package main

import (
	"syscall"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// maxSetting bounds a value for fsconfig(2).
const maxSetting = 255

// rootOverlay mounts the layers. Since 6.8 they are given to the kernel one by
// one; before that in one string, which has to fit into a page.
func (c *container) rootOverlay(s *plan.RootOverlay) error {
	tree, err := overlayByLayers(s)
	if errnoOf(err) == syscall.EINVAL {
		return c.overlayByString(s)
	}
	if err != nil {
		return err
	}
	return c.attachRoot(tree, s.Upper)
}

// overlayByLayers says EINVAL when the kernel or fsconfig cannot take the layers
// like this. Kernels before 6.8 take every key and say so only when the file
// system is created.
func overlayByLayers(s *plan.RootOverlay) (int, error) {
	fs, err := call(sysFsopen, str("overlay"), fsopenCloexec)
	if err != nil {
		return -1, err
	}
	defer closeFd(fs)
	for _, dir := range s.Lower {
		if len(dir) > maxSetting {
			return -1, syscall.EINVAL
		}
		if err := set(fs, "lowerdir+", dir); err == syscall.ENOENT {
			return -1, missing(dir)
		} else if err != nil {
			return -1, syscall.EINVAL
		}
	}
	options := []string{"upperdir=" + s.Upper, "workdir=" + s.Work}
	if s.Volatile {
		options = append(options, "volatile")
	}
	if len(s.Upper) > maxSetting || len(s.Work) > maxSetting {
		return -1, syscall.EINVAL
	}
	return makeFilesystem(fs, "overlay", append(options, s.Options...), 0)
}

// overlayByString names each directory by a descriptor's number: the string
// stays short, and no character in a path can end it.
func (c *container) overlayByString(s *plan.RootOverlay) error {
	var lower string
	var open []int
	for i, dir := range append([]string{s.Upper, s.Work}, s.Lower...) {
		n, err := openat(cwdFd, dir, oPath|syscall.O_DIRECTORY, 0)
		if err == syscall.ENOENT {
			return missing(dir)
		}
		if err != nil {
			return explain(err, dir)
		}
		open = append(open, n)
		if i > 2 {
			lower += ":"
		}
		if i > 1 {
			lower += decimal(n)
		}
	}
	options := "lowerdir=" + lower + ",upperdir=" + decimal(open[0]) + ",workdir=" + decimal(open[1])
	if s.Volatile {
		options += ",volatile"
	}
	for _, o := range s.Options {
		options += "," + o
	}
	if err := c.cloneSources(); err != nil {
		return err
	}
	if err := privateParent(s.Upper); err != nil {
		return explain(err, "make the mount of "+s.Upper+" private")
	}
	if err := just(syscall.SYS_CHDIR, str("/proc/self/fd")); err != nil {
		return err
	}
	if err := just(syscall.SYS_MOUNT, str("overlay"), str(s.Upper), str("overlay"), 0, str(options)); err != nil {
		return explain(err, "overlay of "+s.Upper)
	}
	for _, n := range open {
		closeFd(n)
	}
	var err error
	c.root, err = openat(cwdFd, s.Upper, oPath|syscall.O_DIRECTORY, 0)
	return err
}

func missing(dir string) error { return explained{syscall.ENOENT, dir + " does not exist"} }

func decimal(n int) string {
	b := make([]byte, 0, 20)
	for ; n > 9; n /= 10 {
		b = append(b, byte('0'+n%10))
	}
	b = append(b, byte('0'+n))
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}
