package rootfs

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const testPasswd = `root:x:0:0:root:/root:/bin/sh
# a comment
default-user:x:1000:1000::/home/default-user:/bin/sh
twice:x:2000:2000::/first:/bin/sh
twice:x:2001:2001::/second:/bin/sh
homeless:x:3000:3001
broken:x:none:0::/root:/bin/sh
negative:x:-5:0::/root:/bin/sh
huge:x:4294967296:0::/root:/bin/sh
1234:x:77:78::/numeric:/bin/sh
`

const testGroup = `root:x:0:root
default-user:x:1000:default-user
group-defined-in-image:x:50000:default-user
twice:x:2500:twice
many:x:60000:root,default-user,homeless
brokengroup:x:none:default-user
hugegroup:x:4294967296:default-user
wheel:x:10:
`

type sec = runtime.LinuxContainerSecurityContext

func id(n int64) *runtime.Int64Value { return &runtime.Int64Value{Value: n} }

func TestResolveUser(t *testing.T) {
	strict := runtime.SupplementalGroupsPolicy_Strict
	for _, tt := range []struct {
		name, image string
		sc          *sec
		want        User
	}{
		{"nobody asks for anything", "", nil, User{0, 0, []uint32{0, 60000}, "root", "/root"}},
		{"image uid with an entry", "1000", &sec{}, User{1000, 1000, []uint32{1000, 50000, 60000}, "default-user", "/home/default-user"}},
		{"image uid without an entry", "4242", nil, User{4242, 0, []uint32{0}, "", "/"}},
		{"image name", "default-user", nil, User{1000, 1000, []uint32{1000, 50000, 60000}, "default-user", "/home/default-user"}},
		{"image uid:gid", "1000:7", nil, User{1000, 7, []uint32{7, 50000, 60000}, "default-user", "/home/default-user"}},
		{"image name:group", "default-user:wheel", nil, User{1000, 10, []uint32{10, 50000, 60000}, "default-user", "/home/default-user"}},
		{"image uid:group", "4242:wheel", nil, User{4242, 10, []uint32{10}, "", "/"}},
		{"image name:gid", "default-user:7", nil, User{1000, 7, []uint32{7, 50000, 60000}, "default-user", "/home/default-user"}},
		{"image group alone", ":wheel", nil, User{0, 10, []uint32{10, 60000}, "root", "/root"}},
		{"image user with an empty group", "default-user:", nil, User{1000, 1000, []uint32{1000, 50000, 60000}, "default-user", "/home/default-user"}},
		{"a number is a uid, whatever a user is called", "1234", nil, User{1234, 0, []uint32{0}, "", "/"}},
		{"the first of two entries", "twice", nil, User{2000, 2000, []uint32{2000}, "twice", "/first"}},
		{"an entry without a home", "homeless", nil, User{3000, 3001, []uint32{3001, 60000}, "homeless", "/"}},
		{"run_as_user replaces the image's user and group", "4242:wheel", &sec{RunAsUser: id(1000)}, User{1000, 1000, []uint32{1000, 50000, 60000}, "default-user", "/home/default-user"}},
		{"run_as_user 0 is set", "1000", &sec{RunAsUser: id(0)}, User{0, 0, []uint32{0, 60000}, "root", "/root"}},
		{"run_as_user with run_as_group", "", &sec{RunAsUser: id(1000), RunAsGroup: id(8)}, User{1000, 8, []uint32{8, 50000, 60000}, "default-user", "/home/default-user"}},
		{"run_as_username", "", &sec{RunAsUsername: "default-user"}, User{1000, 1000, []uint32{1000, 50000, 60000}, "default-user", "/home/default-user"}},
		{"run_as_username with run_as_group", "", &sec{RunAsUsername: "default-user", RunAsGroup: id(8)}, User{1000, 8, []uint32{8, 50000, 60000}, "default-user", "/home/default-user"}},
		{"merge adds to the image's groups", "", &sec{RunAsUser: id(1000), SupplementalGroups: []int64{1234}}, User{1000, 1000, []uint32{1000, 1234, 50000, 60000}, "default-user", "/home/default-user"}},
		{"strict does not", "", &sec{RunAsUser: id(1000), SupplementalGroups: []int64{1234}, SupplementalGroupsPolicy: strict}, User{1000, 1000, []uint32{1000, 1234}, "default-user", "/home/default-user"}},
		{"a group twice", "", &sec{RunAsUser: id(4242), SupplementalGroups: []int64{5, 0, 5}}, User{4242, 0, []uint32{0, 5}, "", "/"}},
		{"the largest id", "", &sec{RunAsUser: id(maxID)}, User{maxID, 0, []uint32{0}, "", "/"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := openStore(t)
			for _, layers := range [][]string{
				{layer(t, map[string]string{"etc/passwd": testPasswd, "etc/group": testGroup})},
				{layer(t, map[string]string{"etc/group": testGroup}), layer(t, map[string]string{"etc/passwd": testPasswd, "etc/group": "x:x:1:default-user"})},
			} {
				for range 2 { // resolved, then remembered
					got, err := s.ResolveUser(layers, tt.image, tt.sc)
					if err != nil {
						t.Fatal(err)
					}
					if d := cmp.Diff(tt.want, got); d != "" {
						t.Errorf("%d layers: %s", len(layers), d)
					}
					got.AdditionalGids = append(got.AdditionalGids[:0], 666) // the caller's, not the cache's
				}
			}
		})
	}
}

func TestResolveUserRefuses(t *testing.T) {
	s := openStore(t)
	layers := []string{layer(t, map[string]string{"etc/passwd": testPasswd, "etc/group": testGroup})}
	for _, tt := range []struct {
		name, image string
		sc          *sec
		says        string
	}{
		{"a group without a user", "1000", &sec{RunAsGroup: id(8)}, "run_as_group"},
		{"uid and name", "", &sec{RunAsUser: id(1), RunAsUsername: "x"}, "run_as_username"},
		{"an unknown user", "nobody-here", nil, `no user "nobody-here"`},
		{"an unknown run_as_username", "", &sec{RunAsUsername: "nobody-here"}, `no user "nobody-here"`},
		{"an unknown group", "1000:nogroup-here", nil, `no group "nogroup-here"`},
		{"an entry whose uid is no number is not root", "broken", nil, `no user "broken"`},
		{"a group whose id is no number is not root's", "1000:brokengroup", nil, `no group "brokengroup"`},
		{"a negative uid", "-1", nil, "out of range"},
		{"a uid of 32 bits", "", &sec{RunAsUser: id(1 << 31)}, "out of range"},
		{"a uid of more than 64 bits", "99999999999999999999", nil, "out of range"},
		{"a negative gid", "0:-1", nil, "out of range"},
		{"a negative run_as_group", "", &sec{RunAsUser: id(1), RunAsGroup: id(-1)}, "out of range"},
		{"an entry out of range", "negative", nil, "out of range"},
		{"an entry far out of range", "huge", nil, "out of range"},
		{"a group out of range", "0:hugegroup", nil, "out of range"},
		{"a supplemental group out of range", "", &sec{SupplementalGroups: []int64{-1}}, "out of range"},
		{"three parts", "a:b:c", nil, "a:b:c"},
		{"a colon in a name", "", &sec{RunAsUsername: "default-user:0"}, "run_as_username"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, err := s.ResolveUser(layers, tt.image, tt.sc)
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%+v, %v; want %q", u, err, tt.says)
			}
		})
	}
}

// TestHostileUserFiles looks for the user "evil" or the id 1000 through files
// that try to be something else.
func TestHostileUserFiles(t *testing.T) {
	s := openStore(t)
	noLeaks(t)
	const evil = "evil:x:666:666::/evil:/bin/sh\nplain:x:1000:1000::/plain:/bin/sh\n"
	outside := t.TempDir() + "/passwd"
	if err := os.WriteFile(outside, []byte(evil), 0o644); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 30)
	empty := func() string { return layer(t, map[string]string{"bin": "dir"}) }
	for _, tt := range []struct {
		name  string
		files map[string]string // of the top layer
		below map[string]string
		found bool
	}{
		{"absolute link to the host", map[string]string{"etc/passwd": "-> " + outside}, nil, false},
		{"relative link to the host", map[string]string{"etc/passwd": "-> " + up + outside[1:]}, nil, false},
		{"etc is a link to the host", map[string]string{"etc": "-> " + strings.TrimSuffix(outside, "/passwd")}, nil, false},
		{"absolute link inside the image", map[string]string{"etc/passwd": "-> /usr/lib/passwd", "usr/lib/passwd": evil}, nil, true},
		{"link above the root stays inside", map[string]string{"etc/passwd": "-> " + up + "usr/passwd", "usr/passwd": evil}, nil, true},
		{"etc is an absolute link inside", map[string]string{"etc": "-> /usr/etc", "usr/etc/passwd": evil}, nil, true},
		{"link into another layer", map[string]string{"etc/passwd": "-> /usr/passwd"}, map[string]string{"usr/passwd": evil}, true},
		{"link to itself", map[string]string{"etc/passwd": "-> passwd"}, nil, false},
		{"link to /proc", map[string]string{"etc/passwd": "-> /proc/self/root" + outside}, nil, false},
		{"deleted by a layer above", map[string]string{"etc/passwd": "whiteout"}, map[string]string{"etc/passwd": evil}, false},
		{"deleted in the only layer", map[string]string{"etc/passwd": "whiteout"}, nil, false},
		{"etc deleted by a layer above", map[string]string{"etc": "whiteout"}, map[string]string{"etc/passwd": evil}, false},
		{"a directory", map[string]string{"etc/passwd": "dir"}, nil, false},
		{"a FIFO", map[string]string{"etc/passwd": "fifo"}, nil, false},
		{"a device", map[string]string{"etc/passwd": "device"}, nil, false},
		{"etc is a file", map[string]string{"etc": evil}, nil, false},
		{"none", map[string]string{"bin": "dir"}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			layers := []string{layer(t, tt.files)}
			if tt.below != nil {
				layers = append(layers, layer(t, tt.below))
			}
			for _, layers := range [][]string{layers, append([]string{empty()}, layers...)} {
				u, err := s.ResolveUser(layers, "evil", nil)
				if tt.found && (err != nil || u.UID != 666) || !tt.found && !errdefs.IsInvalidArgument(err) {
					t.Errorf("%d layers, by name: %+v %v", len(layers), u, err)
				}
				u, err = s.ResolveUser(layers, "1000", nil)
				want := uint32(0)
				if tt.found {
					want = 1000
				}
				if err != nil || u.UID != 1000 || u.GID != want {
					t.Errorf("%d layers, by id: %+v %v", len(layers), u, err)
				}
			}
		})
	}
}

func TestHugeUserFilesAreRefused(t *testing.T) {
	s := openStore(t)
	line := "user:x:1:1::/:/bin/sh\n"
	for name, content := range map[string]string{
		"file": strings.Repeat(line, maxUserFile/len(line)+1),
		"line": "user:x:1:1:" + strings.Repeat("x", 1<<20) + ":/:/bin/sh\n",
	} {
		layers := []string{layer(t, map[string]string{"etc/passwd": content})}
		if _, err := s.ResolveUser(layers, "user", nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A sparse file costs the image nothing; it must not cost us memory.
	dir := layer(t, map[string]string{"etc/passwd": "x"})
	if err := os.Truncate(dir+"/etc/passwd", 1<<40); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ResolveUser([]string{dir}, "user", nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("sparse: %v", err)
	}
}

func TestImageWithoutLayersHasNoUsers(t *testing.T) {
	s := openStore(t)
	if u, err := s.ResolveUser(nil, "", nil); err != nil || u.UID != 0 || u.Home != "/" || !slices.Equal(u.AdditionalGids, []uint32{0}) {
		t.Errorf("%+v %v", u, err)
	}
	if _, err := s.ResolveUser(nil, "root", nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("by name: %v", err)
	}
}

func TestUserCacheIsBounded(t *testing.T) {
	var c userCache
	for i := range maxCachedUsers + 10 {
		c.put(fmt.Sprint(i), User{UID: uint32(i)})
		c.get("0") // in use, so it stays
	}
	if len(c.byKey) != maxCachedUsers || c.order.Len() != maxCachedUsers {
		t.Errorf("%d, %d entries", len(c.byKey), c.order.Len())
	}
	if _, ok := c.get("0"); !ok {
		t.Error("the entry in use is gone")
	}
	if _, ok := c.get("1"); ok {
		t.Error("the oldest entry stayed")
	}
}

type memory map[string]string

func (m memory) ReadFile(path string, _ int64) ([]byte, error) { return []byte(m[path]), nil }

// FuzzUserFiles: whatever an image's files hold, ids stay in range and a name
// never becomes root without a line that says 0.
func FuzzUserFiles(f *testing.F) {
	f.Add(testPasswd, testGroup, "default-user")
	f.Add("a:x:", "b:x:0:a", "a:b")
	f.Add("a:x:+0:-0", "::::", "a:0")
	f.Fuzz(func(t *testing.T, passwd, group, image string) {
		w, err := wish(image, nil)
		if err != nil {
			return
		}
		u, err := w.resolve(memory{"/etc/passwd": passwd, "/etc/group": group})
		if err != nil {
			return
		}
		if u.UID > maxID || u.GID > maxID || !strings.HasPrefix(u.Home, "/") {
			t.Errorf("%+v", u)
		}
		for _, g := range u.AdditionalGids {
			if g > maxID {
				t.Errorf("%+v", u)
			}
		}
		if !slices.Contains(u.AdditionalGids, u.GID) || !slices.IsSorted(u.AdditionalGids) {
			t.Errorf("%+v", u)
		}
		if _, isNumber, _ := number(w.user); u.UID == 0 && w.user != "" && !isNumber && !strings.ContainsRune(passwd, '0') {
			t.Errorf("%q became root by %q", w.user, passwd)
		}
	})
}

func BenchmarkResolveUser(b *testing.B) {
	s := openStore(b)
	layers := []string{layer(b, map[string]string{"etc/passwd": testPasswd}), layer(b, map[string]string{"etc/group": testGroup}), layer(b, map[string]string{"bin": "dir"})}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			s.users = userCache{}
			if _, err := s.ResolveUser(layers, "default-user", nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("again", func(b *testing.B) {
		for b.Loop() {
			s.ResolveUser(layers, "default-user", nil)
		}
	})
}
