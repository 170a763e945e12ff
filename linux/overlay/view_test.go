package overlay

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-cri/berth/linux"
	"golang.org/x/sys/unix"
)

// TestView reads a stack of layers through both ways of mounting it.
func TestView(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	var layers []string
	for i := range 60 { // more than one page of their paths
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), []byte(strconv.Itoa(i)), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "all"), []byte(strconv.Itoa(i)), 0o644); err != nil {
			t.Fatal(err)
		}
		layers = append(layers, dir)
	}
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("l", 200), strings.Repeat("m", 200))
	if err := os.MkdirAll(long, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func([]string) (int, error){
		"by descriptor": byDescriptor,
		"by thread":     byThread,
		"the better, a path too long for it": func(l []string) (int, error) {
			f, err := View(append(l[:len(l):len(l)], long))
			if err != nil {
				return -1, err
			}
			return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			root, err := open(layers)
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skip("this kernel has no lowerdir+ (6.8)")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer linux.Close(root)
			for file, want := range map[string]string{"all": "0", "59": "59"} {
				fd, err := linux.OpenInRoot(root, "../../"+file, unix.O_RDONLY)
				if err != nil {
					t.Fatal(err)
				}
				f := os.NewFile(uintptr(fd), file)
				if b, err := io.ReadAll(f); err != nil || string(b) != want {
					t.Errorf("%s: %q %v", file, b, err)
				}
				f.Close()
			}
		})
	}
	if after, _ := os.ReadFile("/proc/self/mountinfo"); string(after) != string(before) {
		t.Errorf("the mount table has changed:\n%s", after)
	}
}
