package layer

import (
	"archive/tar"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// VFS_CAP_REVISION_2 with cap_net_raw, effective.
const netRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func TestUntar(t *testing.T) {
	long := strings.Repeat("long-directory-name/", 12) + "file"
	for _, c := range []struct {
		name    string
		entries []entry
		want    []string // without the root, which is "40755 0:0 now" when it has no entry
		implied []string
	}{{
		name: "one of each type",
		entries: []entry{
			folder("d", mode(0o710), owner(1, 2)), file("d/f", "hello", owner(1000, 1001)), symlink("d/s", "../anywhere/../else"),
			hardlink("d/h", "d/f"), add(tar.TypeFifo, "d/p", mode(0o622)),
			add(tar.TypeChar, "d/c", device(1, 3), mode(0o666), owner(5, 6)), add(tar.TypeBlock, "d/b", device(259, 300000), mode(0o660)),
		},
		want: []string{
			"d 40710 1:2 day", "d/b 60660 0:0 dev 259:300000 day", "d/c 20666 5:6 dev 1:3 day",
			`d/f 100644 1000:1001 "hello" links=2 day`, `d/h 100644 1000:1001 "hello" links=2 day`,
			"d/p 10622 0:0 day", "d/s 120777 0:0 -> ../anywhere/../else day",
		},
	}, {
		name:    "the root has an entry of its own",
		entries: []entry{folder("./", mode(0o1770), owner(7, 8)), file("./f", "")},
		want:    []string{". 41770 7:8 day", `f 100644 0:0 "" day`},
	}, {
		name: "set-uid, set-gid and sticky bits survive chown",
		entries: []entry{
			file("su", "x", mode(0o4755), owner(1, 1)), file("sg", "x", mode(0o2755), owner(1, 1)), folder("tmp", mode(0o1777)),
			add(tar.TypeFifo, "p", mode(0o4777), owner(3, 3)),
		},
		want: []string{"p 14777 3:3 day", `sg 102755 1:1 "x" day`, `su 104755 1:1 "x" day`, "tmp 41777 0:0 day"},
	}, {
		name:    "a set-gid directory does not pass its group on",
		entries: []entry{folder("d", mode(0o2775), owner(0, 50)), file("d/f", "x"), folder("d/e"), symlink("d/s", "f"), add(tar.TypeFifo, "d/p")},
		want:    []string{"d 42775 0:50 day", "d/e 40755 0:0 day", `d/f 100644 0:0 "x" day`, "d/p 10644 0:0 day", "d/s 120777 0:0 -> f day"},
	}, {
		name: "times to the nanosecond, before 1970 and after 2038, also of a directory that is filled later",
		entries: []entry{
			folder("d", at(time.Unix(1, 5))), file("d/f", "x", at(time.Unix(4e9, 999999999))), symlink("d/s", "f"), file("d/old", "x", at(time.Unix(-86400, 7))),
		},
		want: []string{"d 40755 0:0 1.000000005", `d/f 100644 0:0 "x" now`, `d/old 100644 0:0 "x" -86400.000000007`, "d/s 120777 0:0 -> f day"},
	}, {
		name: "attributes that are the image's",
		entries: []entry{
			file("ping", "x", attr("security.capability", netRaw), owner(0, 1), mode(0o755)), folder("d", attr("user.a", "b")), file("empty", "", attr("user.e", "")),
		},
		want: []string{`d 40755 0:0 day user.a="b"`, `empty 100644 0:0 "" day user.e=""`,
			`ping 100755 0:1 "x" day security.capability="\x01\x00\x00\x02\x00 \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"`},
	}, {
		name: "attributes that are not",
		entries: []entry{
			folder("d", attr("trusted.overlay.opaque", "y"), attr("trusted.overlay.redirect", "/etc"), attr("user.overlay.opaque", "y"), attr("trusted.x", "y")),
			file("f", "x", attr("trusted.overlay.metacopy", ""), attr("security.selinux", "system_u:object_r:shadow_t:s0"), attr("security.ima", "x"), attr("user.kept", "1")),
			add(tar.TypeSymlink, "s", to("f"), attr("user.on.a.link", "1")),
		},
		want: []string{"d 40755 0:0 day", `f 100644 0:0 "x" day user.kept="1"`, "s 120777 0:0 -> f day"},
	}, {
		name:    "long names, PAX and GNU",
		entries: []entry{file("p/"+long, "pax"), file("g/"+long, "gnu", func(h *tar.Header) { h.Format, h.ModTime = tar.FormatGNU, time.Unix(5, 0) })},
		want: slices.Concat(chain("g", long), []string{"g/" + long + ` 100644 0:0 "gnu" 5.000000000`},
			chain("p", long), []string{"p/" + long + ` 100644 0:0 "pax" day`}),
		implied: slices.Concat(paths("g", long), paths("p", long)),
	}, {
		name:    "parents without entries",
		entries: []entry{file("a/b/c", "x"), folder("a/d", mode(0o700))},
		want:    []string{"a 40755 0:0 now", "a/b 40755 0:0 now", `a/b/c 100644 0:0 "x" day`, "a/d 40700 0:0 day"},
		implied: []string{"a", "a/b"},
	}, {
		name:    "a directory's entry after its children",
		entries: []entry{file("d/f", "x"), folder("d", mode(0o500), owner(9, 9), attr("user.a", "b"))},
		want:    []string{`d 40500 9:9 day user.a="b"`, `d/f 100644 0:0 "x" day`},
	}, {
		name: "later entries replace earlier ones",
		entries: []entry{
			file("ff", "1", mode(0o600), attr("user.old", "1")), file("ff", "22"),
			file("fd", "1"), folder("fd"), file("fd/x", "x"),
			folder("df"), folder("df/sub"), file("df/sub/x", "x"), file("df", "now a file"),
			symlink("sd", "ff"), folder("sd"), folder("ds"), file("ds/x", "x"), symlink("ds", "ff"),
			file("fs", "1"), symlink("fs", "ff"), symlink("ss", "1"), symlink("ss", "2"), add(tar.TypeFifo, "pf"), file("pf", "no pipe"),
			folder("dd", mode(0o700), attr("user.old", "1")), file("dd/x", "x"), folder("dd", mode(0o711)),
		},
		want: []string{
			"dd 40711 0:0 day", `dd/x 100644 0:0 "x" day`, `df 100644 0:0 "now a file" day`, "ds 120777 0:0 -> ff day",
			"fd 40755 0:0 day", `fd/x 100644 0:0 "x" day`, `ff 100644 0:0 "22" day`, "fs 120777 0:0 -> ff day",
			`pf 100644 0:0 "no pipe" day`, "sd 40755 0:0 day", "ss 120777 0:0 -> 2 day",
		},
	}, {
		name:    "replacing a name of a hard link leaves the other alone",
		entries: []entry{file("a", "1"), hardlink("b", "a"), file("a", "2")},
		want:    []string{`a 100644 0:0 "2" day`, `b 100644 0:0 "1" day`},
	}, {
		name: "paths through links of the layer, as containerd resolves them",
		entries: []entry{
			folder("usr"), folder("usr/lib"), symlink("lib", "usr/lib"), file("lib/a", "a"), symlink("abs", "/usr/lib"), file("abs/b", "b"),
			symlink("up", "../../../usr"), file("up/lib/c", "c"), symlink("dangling", "usr/new/deep"), file("dangling/d", "d"), hardlink("h", "lib/a"),
		},
		want: []string{
			"abs 120777 0:0 -> /usr/lib day", "dangling 120777 0:0 -> usr/new/deep day", `h 100644 0:0 "a" links=2 day`, "lib 120777 0:0 -> usr/lib day",
			"up 120777 0:0 -> ../../../usr day", "usr 40755 0:0 day", "usr/lib 40755 0:0 day", `usr/lib/a 100644 0:0 "a" links=2 day`, `usr/lib/b 100644 0:0 "b" day`,
			`usr/lib/c 100644 0:0 "c" day`, "usr/new 40755 0:0 now", "usr/new/deep 40755 0:0 now", `usr/new/deep/d 100644 0:0 "d" day`,
		},
		implied: []string{"usr/new", "usr/new/deep"},
	}, {
		name:    "odd spellings of paths",
		entries: []entry{file("/abs", "1"), file("./a//b/./c", "2"), file("a/x/../d", "3"), folder("e/.")},
		want:    []string{"a 40755 0:0 now", "a/b 40755 0:0 now", `a/b/c 100644 0:0 "2" day`, `a/d 100644 0:0 "3" day`, `abs 100644 0:0 "1" day`, "e 40755 0:0 day"},
		implied: []string{"a", "a/b"},
	}, {
		name: "whiteouts",
		entries: []entry{
			folder("d"), file("d/.wh.gone", ""), file("d/.wh..wh.aufs", ""), file(".wh..wh.plnk/1.2", ""), file("d/.wh..wh.orph/x", ""), file("implied/.wh.x", ""),
			folder("o"), file("o/.wh..wh..opq", "", mode(0o600)), file("o/new", "x"), file("opaque-first/.wh..wh..opq", ""), folder("opaque-first", mode(0o700)),
		},
		want: []string{
			"d 40755 0:0 day", "d/gone 20000 0:0 dev 0:0 now", "implied 40755 0:0 now", "implied/x 20000 0:0 dev 0:0 now",
			`o 40755 0:0 day trusted.overlay.opaque="y"`, `o/new 100644 0:0 "x" day`, `opaque-first 40700 0:0 day trusted.overlay.opaque="y"`,
		},
		implied: []string{"implied"},
	}, {
		name: "a whiteout is about the layers below, not about this one",
		entries: []entry{
			file("f1", "x"), file(".wh.f1", ""), file(".wh.f2", ""), file("f2", "x"),
			folder("d1"), file("d1/x", "x"), file(".wh.d1", ""), file(".wh.d2", ""), folder("d2"), file("d2/x", "x"), file(".wh.d3", ""), file("d3/x", "x"),
			file(".wh.twice", ""), file(".wh.twice", ""),
		},
		want: []string{
			`d1 40755 0:0 day trusted.overlay.opaque="y"`, `d1/x 100644 0:0 "x" day`, `d2 40755 0:0 day trusted.overlay.opaque="y"`, `d2/x 100644 0:0 "x" day`,
			`d3 40755 0:0 now trusted.overlay.opaque="y"`, `d3/x 100644 0:0 "x" day`, `f1 100644 0:0 "x" day`, `f2 100644 0:0 "x" day`, "twice 20000 0:0 dev 0:0 now",
		},
		implied: []string{"d3"},
	}, {
		name:    "a global PAX header says nothing",
		entries: []entry{{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "git"}}}, file("f", "x")},
		want:    []string{`f 100644 0:0 "x" day`},
	}} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			res, err := s.unpack(t, pack(t, c.entries...), Options{})
			if err != nil {
				t.Fatal(err)
			}
			got := describe(t, s.dir)
			if !strings.HasPrefix(c.want[0], ". ") {
				c.want = append([]string{". 40755 0:0 now"}, c.want...)
			}
			if diff := compare(got, c.want); diff != "" {
				t.Fatal(diff)
			}
			if !slices.Equal(res.Implied, c.implied) {
				t.Errorf("implied %q, want %q", res.Implied, c.implied)
			}
		})
	}
}

// chain describes the implied parents of a path below base.
func chain(base, path string) []string {
	var lines []string
	for _, p := range paths(base, path) {
		lines = append(lines, p+" 40755 0:0 now")
	}
	return lines
}

func paths(base, path string) []string {
	all := []string{base}
	for _, name := range strings.Split(filepath.Dir(path), "/") {
		all = append(all, all[len(all)-1]+"/"+name)
	}
	return all
}

func compare(got, want []string) string {
	slices.Sort(got)
	slices.Sort(want)
	var b strings.Builder
	for _, line := range got {
		if !slices.Contains(want, line) {
			b.WriteString("got  " + line + "\n")
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			b.WriteString("want " + line + "\n")
		}
	}
	return b.String()
}

func TestHostileArchive(t *testing.T) {
	deep := strings.Repeat("d/", 2000) + "f"
	for _, c := range []struct {
		name    string
		entries []entry
		want    []string // nil: refused as invalid
	}{
		{"climbs out", []entry{file("../evil", "x")}, nil},
		{"climbs out in the middle", []entry{file("a/../../evil", "x")}, nil},
		{"climbs out from an absolute path", []entry{file("/../evil", "x")}, nil},
		{"is the parent", []entry{folder("..", mode(0o777))}, nil},
		{"a root that is a file", []entry{file("./", "x", func(h *tar.Header) { h.Name = "." })}, nil},
		{"a root that is a link", []entry{symlink(".", "/etc")}, nil},
		{"link to the outside, then through it", []entry{symlink("l", "../outside"), file("l/secret", "x")},
			[]string{"l 120777 0:0 -> ../outside day", "outside 40755 0:0 now", `outside/secret 100644 0:0 "x" day`}},
		{"absolute link, then through it", []entry{symlink("l", "/outside"), file("l/secret", "x")},
			[]string{"l 120777 0:0 -> /outside day", "outside 40755 0:0 now", `outside/secret 100644 0:0 "x" day`}},
		{"link by way of a link", []entry{symlink("a", "."), symlink("a/b", ".."), file("b/secret", "x")},
			[]string{"a 120777 0:0 -> . day", "b 120777 0:0 -> .. day", `secret 100644 0:0 "x" day`}},
		{"a directory in use becomes a link", []entry{folder("d"), file("d/a", "x"), symlink("d", "../outside"), file("d/secret", "x")},
			[]string{"d 120777 0:0 -> ../outside day", "outside 40755 0:0 now", `outside/secret 100644 0:0 "x" day`}},
		{"the parent of a directory in use becomes a link", []entry{folder("d/e"), file("d/e/a", "x"), symlink("d", "../outside"), file("d/e/secret", "x")},
			[]string{"d 120777 0:0 -> ../outside day", "outside 40755 0:0 now", "outside/e 40755 0:0 now", `outside/e/secret 100644 0:0 "x" day`}},
		{"file over a link", []entry{symlink("secret", "../outside/secret"), file("secret", "x")}, []string{`secret 100644 0:0 "x" day`}},
		{"file over a hard link to a link", []entry{symlink("s", "../outside/secret"), hardlink("h", "s"), file("h", "x")},
			[]string{"s 120777 0:0 -> ../outside/secret day", `h 100644 0:0 "x" day`}},
		{"mode, owner and attribute through a link", []entry{add(tar.TypeSymlink, "l", to("../outside/secret"), mode(0o7777), owner(1, 1), attr("user.x", "y"))},
			[]string{"l 120777 1:1 -> ../outside/secret day"}},
		{"directory over a link to a directory", []entry{symlink("l", "../outside"), folder("l", mode(0o777), owner(1, 1))}, []string{"l 40777 1:1 day"}},
		{"whiteout through a link", []entry{symlink("l", "../outside"), file("l/.wh.secret", "")},
			[]string{"l 120777 0:0 -> ../outside day", "outside 40755 0:0 now", "outside/secret 20000 0:0 dev 0:0 now"}},
		{"opaque through a link", []entry{symlink("l", "../outside"), file("l/.wh..wh..opq", "")},
			[]string{"l 120777 0:0 -> ../outside day", `outside 40755 0:0 now trusted.overlay.opaque="y"`}},
		{"whiteout of the parent", []entry{file(".wh...", "")}, nil},
		{"whiteout of the directory", []entry{file("d/.wh..", "")}, nil},
		{"whiteout of no name", []entry{file("d/.wh.", "")}, nil},
		{"hard link to the outside", []entry{hardlink("h", "../outside/secret")}, nil},
		{"hard link to the outside, absolute", []entry{hardlink("h", "/etc/passwd")}, nil},
		{"hard link through a link", []entry{symlink("l", "../outside"), hardlink("h", "l/secret")}, nil},
		{"hard link to a link to the outside", []entry{symlink("l", "../outside/secret"), hardlink("h", "l")},
			[]string{"h 120777 0:0 -> ../outside/secret day", "l 120777 0:0 -> ../outside/secret day"}},
		{"hard link to a directory", []entry{folder("d"), hardlink("h", "d")}, nil},
		{"hard link to the root", []entry{hardlink("h", ".")}, nil},
		{"hard link to itself", []entry{file("f", "x"), hardlink("f", "f")}, nil},
		{"hard link in the place of its own parent", []entry{file("d/f", "x"), hardlink("d", "d/f")}, nil},
		{"a file as a parent", []entry{file("f", "x"), file("f/g", "x")}, nil},
		{"a device as a parent", []entry{add(tar.TypeChar, "c", device(1, 3)), file("c/g", "x")}, nil},
		{"a FIFO as a parent does not block", []entry{add(tar.TypeFifo, "p"), file("p/g", "x")}, nil},
		{"links in a circle", []entry{symlink("a", "b"), symlink("b", "a"), file("a/f", "x")}, nil},
		{"a link to itself", []entry{symlink("a", "a/a"), file("a/f", "x")}, nil},
		{"nested without end", []entry{file(deep, "x")}, nil},
		{"nested without end through links", []entry{file(strings.Repeat("d/", 400)+"f", "x"), symlink("l", strings.TrimSuffix(strings.Repeat("d/", 400), "/")), file("l/"+deep[:400]+"f", "x")}, nil},
		{"a path that is too long", []entry{file(strings.Repeat("x", 5000), "x")}, nil},
		{"a path of half a megabyte", []entry{file(strings.Repeat("x/", 250_000), "x", func(h *tar.Header) { h.Name += "f" })}, nil},
		{"a name that is too long", []entry{file(strings.Repeat("x", 256), "x")}, nil},
		{"an owner that does not exist", []entry{file("f", "x", owner(1<<32-1, 0))}, nil},
		{"a device that does not exist", []entry{add(tar.TypeChar, "c", device(1<<13, 0), func(h *tar.Header) { h.Format = tar.FormatGNU })}, nil},
		{"a link to nothing", []entry{add(tar.TypeSymlink, "l")}, nil},
		{"more attributes than allowed", []entry{file("f", "", attr("user.a", strings.Repeat("x", 300<<10)))}, nil},
		{"an attribute whose name is too long", []entry{file("f", "", attr("user."+strings.Repeat("x", 100<<10), "x"))}, nil},
		{"an attribute whose value is too long", []entry{file("f", "", attr("user.a", strings.Repeat("x", 100<<10)))}, nil},
		{"an entry of a type that no layer has", []entry{add('V', "volume")}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			_, err := s.unpack(t, pack(t, c.entries...), Options{})
			if c.want == nil {
				if !errdefs.IsInvalidArgument(err) || len(err.Error()) > 5000 {
					t.Fatalf("got %v, want it refused", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := compare(describe(t, s.dir)[1:], c.want); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

// Both forms of GNU tar, and the tar of a file that has a hole of our making.
func TestSparse(t *testing.T) {
	src := t.TempDir()
	f, err := os.Create(filepath.Join(src, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("head"), 0)
	f.WriteAt([]byte("middle"), 5<<20+3)
	f.Truncate(20 << 20)
	f.Close()
	for _, args := range [][]string{{"--sparse", "--format=gnu"}, {"--sparse", "--format=pax"}, {"--format=pax"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			blob, err := exec.Command("tar", append(args, "-C", src, "-c", "sparse")...).Output()
			if err != nil {
				t.Fatal(err)
			}
			s := newStage(t)
			res, err := s.unpack(t, blob, Options{})
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(s.dir, "sparse")
			want, _ := os.ReadFile(filepath.Join(src, "sparse"))
			if got, err := os.ReadFile(path); err != nil || string(got) != string(want) {
				t.Fatalf("other content: %v", err)
			}
			var st unix.Stat_t
			unix.Stat(path, &st)
			if st.Blocks*512 > 1<<20 || res.Size > 1<<20 {
				t.Fatalf("takes %d bytes, recorded %d", st.Blocks*512, res.Size)
			}
		})
	}
}

// The recorded size is what the file system says, within its own overhead.
func TestSizeAndEntries(t *testing.T) {
	entries := []entry{folder("d"), symlink("d/s", "x"), file("d/empty", ""), hardlink("d/h", "d/empty")}
	for _, n := range []int{1, 4096, 4097, 300_000, 1 << 20} {
		entries = append(entries, file("f"+strings.Repeat("x", n%17)+string(rune('a'+n%26)), strings.Repeat("z", n)))
	}
	s := newStage(t)
	res, err := s.unpack(t, pack(t, entries...), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var bytes int64
	inodes := map[uint64]bool{}
	for _, line := range describe(t, s.dir) {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(s.dir, strings.Fields(line)[0]), &st); err != nil {
			t.Fatal(err)
		}
		if !inodes[st.Ino] {
			bytes += st.Blocks * 512
		}
		inodes[st.Ino] = true
	}
	if res.Size != bytes || res.Entries != len(inodes) {
		t.Fatalf("recorded %d bytes and %d entries, the disk has %d and %d", res.Size, res.Entries, bytes, len(inodes))
	}
}
