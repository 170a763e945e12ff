package main

import (
	"syscall"

	"github.com/berth-cri/berth/runtime/oci/embedded/plan"
)

// overlay is what an overlay is made of. One without upper and work is
// read-only.
type overlay struct {
	lower       []string // topmost first
	upper, work string
	options     []string
}

func overlayOf(s *plan.RootOverlay) overlay {
	o := overlay{lower: s.Lower, upper: s.Upper, work: s.Work, options: s.Options}
	if s.Volatile {
		o.options = append([]string{"volatile"}, o.options...)
	}
	return o
}

// rootOverlay mounts the layers. Since 6.8 they are given to the kernel one by
// one; before that in one string, which has to fit into a page.
func (c *container) rootOverlay(s *plan.RootOverlay) error {
	o := overlayOf(s)
	tree, err := o.byLayers()
	if err == nil {
		return c.attachRoot(tree, s.Upper)
	}
	if errnoOf(err) != syscall.EINVAL {
		return err
	}
	if err := c.cloneSources(); err != nil {
		return err
	}
	if err := privateParent(s.Upper); err != nil {
		return explain(err, "make the mount of "+s.Upper+" private")
	}
	if err := o.byString(s.Upper); err != nil {
		return err
	}
	c.root, err = openat(cwdFd, s.Upper, oPath|syscall.O_DIRECTORY, 0)
	return err
}

// takesLayers says whether the kernel is 6.8 or newer. An older one would write a
// line into its log for each container.
func takesLayers() bool {
	var u syscall.Utsname
	if syscall.Uname(&u) != nil {
		return true // the kernel will say
	}
	version, part := [2]int{}, 0
	for _, c := range u.Release {
		if c >= '0' && c <= '9' {
			version[part] = version[part]*10 + int(c-'0')
		} else if part++; part == len(version) {
			break
		}
	}
	return version[0] > 6 || version[0] == 6 && version[1] >= 8
}

// maxSetting bounds a value for fsconfig(2).
const maxSetting = 255

// byLayers returns the overlay, mounted nowhere. It says EINVAL when the kernel
// or fsconfig cannot take the layers like this. Kernels before 6.8 take every key
// and say so only when the file system is created.
func (o *overlay) byLayers() (int, error) {
	if !takesLayers() {
		return -1, syscall.EINVAL
	}
	fs, err := call(sysFsopen, str("overlay"), fsopenCloexec)
	if err != nil {
		return -1, err
	}
	defer closeFd(fs)
	for _, dir := range o.lower {
		if len(dir) > maxSetting {
			return -1, syscall.EINVAL
		}
		if err := set(fs, "lowerdir+", dir); err == syscall.ENOENT {
			return -1, missing(dir)
		} else if err != nil {
			return -1, syscall.EINVAL
		}
	}
	var options []string
	if o.upper != "" {
		options = []string{"upperdir=" + o.upper, "workdir=" + o.work}
	}
	if len(o.upper) > maxSetting || len(o.work) > maxSetting {
		return -1, syscall.EINVAL
	}
	return makeFilesystem(fs, "overlay", append(options, o.options...), 0)
}

// byString mounts the overlay over a directory. It names each of its own by a
// descriptor's number: the string stays short, and no character in a path can
// end it.
func (o *overlay) byString(over string) error {
	dirs := o.lower
	if o.upper != "" {
		dirs = append([]string{o.upper, o.work}, o.lower...)
	}
	var numbers []string
	for _, dir := range dirs {
		n, err := openat(cwdFd, dir, oPath|syscall.O_DIRECTORY, 0)
		if err == syscall.ENOENT {
			return missing(dir)
		}
		if err != nil {
			return explain(err, dir)
		}
		defer closeFd(n)
		numbers = append(numbers, decimal(n))
	}
	options := ""
	if o.upper != "" {
		options = "upperdir=" + numbers[0] + ",workdir=" + numbers[1] + ","
		numbers = numbers[2:]
	}
	options += "lowerdir=" + numbers[0]
	for _, n := range numbers[1:] {
		options += ":" + n
	}
	for _, extra := range o.options {
		options += "," + quoted(extra)
	}
	if err := just(syscall.SYS_CHDIR, str("/proc/self/fd")); err != nil {
		return err
	}
	if err := just(syscall.SYS_MOUNT, str("overlay"), str(over), str("overlay"), 0, str(options)); err != nil {
		return explain(err, "overlay of "+over)
	}
	return nil
}

// quoted keeps the commas of a label from ending the option; SELinux takes the
// quotes away (fsconfig(2) needs none).
func quoted(option string) string {
	const key = "context="
	if len(option) > len(key) && option[:len(key)] == key {
		return key + `"` + option[len(key):] + `"`
	}
	return option
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
