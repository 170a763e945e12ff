package builtin

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// RemoveDead removes the elements of attachments that are gone without a DEL: of
// pods whose daemon was killed together with its records. It says how many.
//
// The tables may be shared with another daemon, so what is not recorded here is
// not therefore dead. But bridge and ptp make the host end before an element, and
// its name follows from the owner: where there is no such interface any more,
// nobody has the address, whoever it was. Owners in other tables are dead when
// they are so here, or when the interface that an element names is gone.
func RemoveDead() (removed int, err error) {
	found := map[*nftables.Set][]nftables.SetElement{}
	sets := append(append([]*nftables.Set{masqPods4, masqPods6}, portRules.sets...), spoofRules.sets...)
	for _, s := range sets {
		if found[s], err = elements(s); err != nil {
			return 0, err
		}
	}
	// After the elements: what is being attached meanwhile has its interface.
	there, err := interfaces()
	if err != nil {
		return 0, err
	}
	dead := map[string]bool{}
	for _, s := range masqRules.sets {
		for _, e := range found[s] {
			if host, ok := hostEndOf(e.Comment); ok && !there[host] {
				dead[e.Comment] = true
			}
		}
	}
	var errs []error
	for _, s := range sets {
		var gone []nftables.SetElement
		for _, e := range found[s] {
			if dead[e.Comment] || s.Table == spoofTable && !there[interfaceKey(e.Key)] {
				gone = append(gone, nftables.SetElement{Key: e.Key, KeyEnd: e.KeyEnd})
			}
		}
		removed += len(gone)
		errs = append(errs, remove(s, gone))
	}
	return removed, errors.Join(errs...)
}

func interfaces() (map[string]bool, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := make(map[string]bool, len(all))
	for _, l := range all {
		names[l.Attrs().Name] = true
	}
	return names, nil
}

// hashedTag is what networkTag makes of a long name.
var hashedTag = regexp.MustCompile(`^[0-9a-f]{32}$`)

// hostEndOf is the interface of an owner; not known of one whose parts were too
// long for a comment.
func hostEndOf(comment string) (string, bool) {
	part := strings.Split(comment, " ")
	if len(part) != 3 || hashedTag.MatchString(part[0]) {
		return "", false
	}
	return hostEnd(part[0], part[1], part[2]), true
}

// interfaceKey is the name that a key of ifKey or macKey starts with.
func interfaceKey(key []byte) string {
	name, _, _ := strings.Cut(string(key), "\x00")
	return name
}
