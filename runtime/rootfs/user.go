package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	passwd "github.com/moby/sys/user"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// User is who a container's process is.
type User struct {
	UID, GID       uint32
	AdditionalGids []uint32 // sorted, with GID among them
	Username       string   // "" when the image does not name the uid
	Home           string   // "/" when the image does not say
}

const (
	// maxID is the kubelet's limit (and runc's), not the kernel's.
	maxID = math.MaxInt32
	// maxUserFile bounds /etc/passwd and /etc/group; 100000 users fit.
	maxUserFile = 8 << 20
)

// ResolveUser finds the user for a container: what the request asks for, else
// the image's user, else root. Names are looked up in the image.
func (s *Store) ResolveUser(layers []string, image string, sc *runtime.LinuxContainerSecurityContext) (User, error) {
	w, err := wish(image, sc)
	if err != nil {
		return User{}, fmt.Errorf("resolve user: %w", err)
	}
	key := w.key(layers)
	if u, ok := s.users.get(key); ok {
		return u, nil
	}
	v, err := OpenView(layers)
	if err != nil {
		return User{}, fmt.Errorf("resolve user: %w", err)
	}
	defer v.Close()
	u, err := w.resolve(v)
	if err != nil {
		return User{}, fmt.Errorf("resolve user %q: %w", w.spec(), err)
	}
	s.users.put(key, u)
	return u, nil
}

// wanted is a user as asked for: each of user and group a number or a name.
type wanted struct {
	user, group string // "" is not given
	extra       []uint32
	merge       bool // add the groups that the image puts the user into
}

func (w wanted) spec() string {
	if w.group == "" {
		return w.user
	}
	return w.user + ":" + w.group
}

func (w wanted) key(layers []string) string {
	return fmt.Sprintf("%q %q %d %t %q", w.user, w.group, w.extra, w.merge, layers)
}

// wish applies the rules of the CRI's LinuxContainerSecurityContext: a user
// there replaces the image's user and group together.
func wish(image string, sc *runtime.LinuxContainerSecurityContext) (wanted, error) {
	w := wanted{}
	uid, name, gid := sc.GetRunAsUser(), sc.GetRunAsUsername(), sc.GetRunAsGroup()
	switch {
	case uid != nil && name != "":
		return w, fmt.Errorf("run_as_user and run_as_username exclude each other: %w", errdefs.ErrInvalidArgument)
	case uid != nil:
		w.user = strconv.FormatInt(uid.GetValue(), 10)
	case name != "":
		if strings.Contains(name, ":") {
			return w, fmt.Errorf("run_as_username %q: %w", name, errdefs.ErrInvalidArgument)
		}
		w.user = name
	case gid != nil:
		return w, fmt.Errorf("run_as_group without run_as_user or run_as_username: %w", errdefs.ErrInvalidArgument)
	default:
		var more bool
		w.user, w.group, _ = strings.Cut(image, ":")
		if _, _, more = strings.Cut(w.group, ":"); more {
			return w, fmt.Errorf("the image's user %q: %w", image, errdefs.ErrInvalidArgument)
		}
	}
	if gid != nil {
		w.group = strconv.FormatInt(gid.GetValue(), 10)
	}
	switch p := sc.GetSupplementalGroupsPolicy(); p {
	case runtime.SupplementalGroupsPolicy_Merge:
		w.merge = true
	case runtime.SupplementalGroupsPolicy_Strict:
	default:
		return w, fmt.Errorf("supplemental_groups_policy %v: %w", p, errdefs.ErrNotImplemented)
	}
	for _, g := range sc.GetSupplementalGroups() {
		if g < 0 || g > maxID {
			return w, fmt.Errorf("supplemental group %d is out of range: %w", g, errdefs.ErrInvalidArgument)
		}
		w.extra = append(w.extra, uint32(g))
	}
	return w, nil
}

// number reads an id; ok is false for a name.
func number(s string) (id uint32, ok bool, err error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if errors.Is(err, strconv.ErrSyntax) {
		return 0, false, nil
	}
	if err != nil || n < 0 || n > maxID {
		return 0, false, fmt.Errorf("id %s is out of range: %w", s, errdefs.ErrInvalidArgument)
	}
	return uint32(n), true, nil
}

// files is what resolve needs of an image; see View.
type files interface {
	ReadFile(path string, limit int64) ([]byte, error)
}

// resolve looks the wish up in the image. A number needs no entry there; a
// name does. Without a group, it is the entry's, or 0 as Docker has it.
func (w wanted) resolve(image files) (User, error) {
	user := w.user
	if user == "" {
		user = "0"
	}
	uid, isNumber, err := number(user)
	if err != nil {
		return User{}, err
	}
	entry, found, err := findUser(image, func(e passwd.User) bool {
		if isNumber {
			return e.Uid == int(uid)
		}
		return e.Name == user
	})
	if err != nil {
		return User{}, err
	}
	if !found && !isNumber {
		return User{}, fmt.Errorf("the image's /etc/passwd has no user %q: %w", user, errdefs.ErrInvalidArgument)
	}
	u := User{UID: uid, Home: "/"}
	if found {
		if u, err = fromEntry(entry); err != nil {
			return User{}, err
		}
	}
	groups, err := readGroups(image, w.merge && u.Username != "" || w.group != "")
	if err != nil {
		return User{}, err
	}
	if w.group != "" {
		if u.GID, err = findGroup(groups, w.group); err != nil {
			return User{}, err
		}
	}
	u.AdditionalGids = append([]uint32{u.GID}, w.extra...)
	if w.merge && u.Username != "" {
		for _, g := range groups {
			// The group that bears the user's name is the primary one by custom,
			// whatever its list says; containerd leaves it out too.
			if g.Name != u.Username && slices.Contains(g.List, u.Username) && inRange(g.Gid) {
				u.AdditionalGids = append(u.AdditionalGids, uint32(g.Gid))
			}
		}
	}
	slices.Sort(u.AdditionalGids)
	u.AdditionalGids = slices.Compact(u.AdditionalGids)
	return u, nil
}

func inRange(id int) bool { return id >= 0 && id <= maxID }

func fromEntry(e passwd.User) (User, error) {
	if !inRange(e.Uid) || !inRange(e.Gid) {
		return User{}, fmt.Errorf("the image's /etc/passwd gives %q the ids %d:%d, out of range: %w", e.Name, e.Uid, e.Gid, errdefs.ErrInvalidArgument)
	}
	u := User{UID: uint32(e.Uid), GID: uint32(e.Gid), Username: e.Name, Home: e.Home}
	if !strings.HasPrefix(u.Home, "/") {
		u.Home = "/"
	}
	return u, nil
}

func findGroup(groups []passwd.Group, group string) (uint32, error) {
	gid, isNumber, err := number(group)
	if err != nil || isNumber {
		return gid, err
	}
	for _, g := range groups {
		if g.Name != group {
			continue
		}
		if !inRange(g.Gid) {
			return 0, fmt.Errorf("the image's /etc/group gives %q the id %d, out of range: %w", group, g.Gid, errdefs.ErrInvalidArgument)
		}
		return uint32(g.Gid), nil
	}
	return 0, fmt.Errorf("the image's /etc/group has no group %q: %w", group, errdefs.ErrInvalidArgument)
}

// findUser returns the first entry that matches, as every reader of
// /etc/passwd does. An image without the file has no users.
func findUser(image files, match func(passwd.User) bool) (e passwd.User, found bool, err error) {
	b, err := image.ReadFile("/etc/passwd", maxUserFile)
	if errors.Is(err, fs.ErrNotExist) {
		return e, false, nil
	}
	if err != nil {
		return e, false, err
	}
	users, err := passwd.ParsePasswdFilter(bytes.NewReader(numbered(b, 2, 3)), match)
	if err != nil {
		return e, false, fmt.Errorf("the image's /etc/passwd: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if len(users) == 0 {
		return e, false, nil
	}
	return users[0], true, nil
}

func readGroups(image files, needed bool) ([]passwd.Group, error) {
	if !needed {
		return nil, nil
	}
	b, err := image.ReadFile("/etc/group", maxUserFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	groups, err := passwd.ParseGroup(bytes.NewReader(numbered(b, 2)))
	if err != nil {
		return nil, fmt.Errorf("the image's /etc/group: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return groups, nil
}

// numbered drops the lines whose id fields are not numbers: the parser would
// take such an id for 0, and make root of somebody.
func numbered(b []byte, fields ...int) []byte {
	var kept []byte
	for line := range bytes.Lines(b) {
		parts := bytes.Split(bytes.TrimSpace(line), []byte(":"))
		good := true
		for _, i := range fields {
			if i >= len(parts) {
				good = false
				break
			}
			_, err := strconv.ParseInt(string(parts[i]), 10, 64)
			good = good && err == nil
		}
		if good {
			kept = append(kept, line...)
		}
	}
	return kept
}
