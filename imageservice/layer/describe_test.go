package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain runs everything under the strictest umask: no mode may depend on it.
func TestMain(m *testing.M) {
	unix.Umask(0o077)
	os.Exit(m.Run())
}

var day = time.Unix(1700000000, 123456789)

// entry is one of an archive: a header with the defaults of its type, and a body.
type entry struct {
	tar.Header
	body string
}

func add(typ byte, name string, change ...func(*tar.Header)) entry {
	e := entry{Header: tar.Header{Typeflag: typ, Name: name, Mode: 0o644, ModTime: day, Format: tar.FormatPAX}}
	if typ == tar.TypeDir {
		e.Mode = 0o755
	}
	for _, f := range change {
		f(&e.Header)
	}
	return e
}

func file(name, body string, change ...func(*tar.Header)) entry {
	e := add(tar.TypeReg, name, change...)
	e.body, e.Size = body, int64(len(body))
	return e
}

func folder(name string, change ...func(*tar.Header)) entry { return add(tar.TypeDir, name, change...) }

func symlink(name, target string) entry { return add(tar.TypeSymlink, name, to(target)) }
func hardlink(name, target string) entry {
	return add(tar.TypeLink, name, to(target))
}

func to(target string) func(*tar.Header) { return func(h *tar.Header) { h.Linkname = target } }
func mode(m int64) func(*tar.Header)     { return func(h *tar.Header) { h.Mode = m } }
func at(t time.Time) func(*tar.Header)   { return func(h *tar.Header) { h.ModTime = t } }
func owner(uid, gid int) func(*tar.Header) {
	return func(h *tar.Header) { h.Uid, h.Gid = uid, gid }
}
func device(major, minor int64) func(*tar.Header) {
	return func(h *tar.Header) { h.Devmajor, h.Devminor = major, minor }
}
func attr(name, value string) func(*tar.Header) {
	return func(h *tar.Header) {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattrRecord+name] = value
	}
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatalf("pack %q: %v", e.Name, err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			t.Fatalf("pack %q: %v", e.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// stage is a directory to unpack into, with something beside it that no
// archive may touch.
type stage struct {
	base, dir string
	before    []string
}

func newStage(t testing.TB) *stage {
	t.Helper()
	base := t.TempDir()
	s := &stage{base: base, dir: filepath.Join(base, "layer")}
	for path, body := range map[string]string{"outside/secret": "s3cret", "outside/sub/deep": "deep"} {
		os.MkdirAll(filepath.Dir(filepath.Join(base, path)), 0o750)
		if err := os.WriteFile(filepath.Join(base, path), []byte(body), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.before = s.surroundings(t)
	return s
}

// surroundings are all that is beside the layer, with every detail.
func (s *stage) surroundings(t testing.TB) []string {
	t.Helper()
	lines := describe(t, filepath.Join(s.base, "outside"))
	entries, err := os.ReadDir(s.base)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		lines = append(lines, e.Name())
	}
	return lines
}

func (s *stage) unpack(t testing.TB, blob []byte, opts Options) (Result, error) {
	t.Helper()
	res, err := Unpack(context.Background(), bytes.NewReader(blob), s.dir, opts)
	if after := s.surroundings(t); !slices.Equal(after, s.before) {
		t.Fatalf("something beside the layer changed:\n%s\nwas\n%s", strings.Join(after, "\n"), strings.Join(s.before, "\n"))
	}
	return res, err
}

// describe lists a tree: path, type and mode, owner, what it holds, time, attributes.
func describe(t testing.TB, root string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		what := ""
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			body, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if what = fmt.Sprintf("%q", body); len(body) > 100 {
				what = fmt.Sprintf("%d bytes", len(body))
			}
			if st.Nlink > 1 {
				what += fmt.Sprintf(" links=%d", st.Nlink)
			}
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what = "-> " + target
		case unix.S_IFCHR, unix.S_IFBLK:
			what = fmt.Sprintf("dev %d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
		}
		mtime := "now"
		if st.Mtim.Sec != time.Now().Unix() && time.Since(time.Unix(st.Mtim.Sec, st.Mtim.Nsec)) > time.Hour {
			mtime = fmt.Sprintf("%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		if mtime == "1700000000.123456789" {
			mtime = "day"
		}
		fields := []string{rel, fmt.Sprintf("%o", st.Mode), fmt.Sprintf("%d:%d", st.Uid, st.Gid), what, mtime, xattrs(t, path)}
		lines = append(lines, strings.Join(strings.Fields(strings.Join(fields, " ")), " "))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func xattrs(t testing.TB, path string) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s=%q", name, value[:n]))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
