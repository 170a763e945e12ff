package embedded

import (
	"strings"

	"golang.org/x/sys/unix"
)

// attribute is what an option of a mount does to its attributes.
type attribute struct{ set, clear uint64 }

// attributes of mounts, by option. With an "r" in front an option is for the
// mounts below as well.
var attributes = map[string]attribute{
	"ro":            {set: unix.MOUNT_ATTR_RDONLY},
	"rw":            {clear: unix.MOUNT_ATTR_RDONLY},
	"nosuid":        {set: unix.MOUNT_ATTR_NOSUID},
	"suid":          {clear: unix.MOUNT_ATTR_NOSUID},
	"nodev":         {set: unix.MOUNT_ATTR_NODEV},
	"dev":           {clear: unix.MOUNT_ATTR_NODEV},
	"noexec":        {set: unix.MOUNT_ATTR_NOEXEC},
	"exec":          {clear: unix.MOUNT_ATTR_NOEXEC},
	"nodiratime":    {set: unix.MOUNT_ATTR_NODIRATIME},
	"diratime":      {clear: unix.MOUNT_ATTR_NODIRATIME},
	"nosymfollow":   {set: unix.MOUNT_ATTR_NOSYMFOLLOW},
	"symfollow":     {clear: unix.MOUNT_ATTR_NOSYMFOLLOW},
	"relatime":      {clear: unix.MOUNT_ATTR__ATIME},
	"noatime":       {set: unix.MOUNT_ATTR_NOATIME, clear: unix.MOUNT_ATTR__ATIME},
	"strictatime":   {set: unix.MOUNT_ATTR_STRICTATIME, clear: unix.MOUNT_ATTR__ATIME},
	"atime":         {clear: unix.MOUNT_ATTR__ATIME},
	"norelatime":    {clear: unix.MOUNT_ATTR__ATIME},
	"nostrictatime": {clear: unix.MOUNT_ATTR__ATIME},
}

// superblockOptions are of a file system; a bind mount shares it with others
// and cannot have its own.
var superblockOptions = map[string]bool{
	"sync": true, "dirsync": true, "lazytime": true, "mand": true,
}

// withoutEffect are defaults that need no act.
var withoutEffect = map[string]bool{
	"defaults": true, "async": true, "nolazytime": true, "nomand": true, "loud": true, "silent": true,
}

// unsupportedOptions are words of the runtime-spec and of runc.
var unsupportedOptions = map[string]bool{
	"remount": true, "tmpcopyup": true, "iversion": true, "noiversion": true,
}

// subdirOption of util-linux mounts a part of a file system.
const subdirOption = "X-mount.subdir="

// options of a mount, sorted by what they are for.
type options struct {
	bind, recursive bool
	idmap, ridmap   bool // through the container's user namespace; with what is mounted below
	own, below      attribute
	propagation     uint64
	subdir          string
	data            []string // for the file system
}

func parseOptions(list []string) (options, error) {
	var o options
	for _, word := range list {
		recursive, isRecursive := attributes[strings.TrimPrefix(word, "r")]
		if plain, ok := attributes[word]; ok {
			o.own = o.own.then(plain)
		} else if isRecursive && strings.HasPrefix(word, "r") {
			o.below = o.below.then(recursive)
		} else if p, ok := propagations[word]; ok {
			o.propagation = p
		} else if word == "bind" || word == "rbind" {
			o.bind, o.recursive = true, o.recursive || word == "rbind"
		} else if word == "idmap" || word == "ridmap" {
			o.idmap, o.ridmap = true, o.ridmap || word == "ridmap"
		} else if path, ok := strings.CutPrefix(word, subdirOption); ok {
			o.subdir = path
		} else if unsupportedOptions[word] {
			return o, unsupported("option " + word)
		} else if !withoutEffect[word] {
			o.data = append(o.data, unquoted(word))
		}
	}
	return o, nil
}

// then is a and after it b.
func (a attribute) then(b attribute) attribute {
	// Whatever b says about an attribute stands.
	return attribute{set: a.set&^b.clear | b.set, clear: a.clear&^b.set | b.clear}
}

// unquoted is key=value without the quotes that mount(2) wants around a label.
func unquoted(word string) string {
	key, value, ok := strings.Cut(word, "=")
	if ok && len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
		return key + "=" + value[1:len(value)-1]
	}
	return word
}
