package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestNumbersOfTheKernel(t *testing.T) {
	for name, pair := range map[string][2]uint64{
		"open_tree": {sysOpenTree, unix.SYS_OPEN_TREE}, "move_mount": {sysMoveMount, unix.SYS_MOVE_MOUNT},
		"fsopen": {sysFsopen, unix.SYS_FSOPEN}, "fsconfig": {sysFsconfig, unix.SYS_FSCONFIG},
		"fsmount": {sysFsmount, unix.SYS_FSMOUNT}, "close_range": {sysCloseRange, unix.SYS_CLOSE_RANGE},
		"openat2": {sysOpenat2, unix.SYS_OPENAT2}, "mount_setattr": {sysMountSetattr, unix.SYS_MOUNT_SETATTR},
		"setns": {sysSetns, unix.SYS_SETNS}, "seccomp": {sysSeccomp, unix.SYS_SECCOMP},
		"sched_setattr": {sysSchedSetattr, unix.SYS_SCHED_SETATTR}, "statx": {sysStatx, unix.SYS_STATX},
		"keyctl": {sysKeyctl, unix.SYS_KEYCTL}, "ioprio_set": {sysIoprioSet, unix.SYS_IOPRIO_SET},
		"prlimit64": {sysPrlimit, unix.SYS_PRLIMIT64},

		"O_PATH": {oPath, unix.O_PATH}, "AT_EMPTY_PATH": {atEmptyPath, unix.AT_EMPTY_PATH},
		"AT_RECURSIVE": {atRecursive, unix.AT_RECURSIVE}, "AT_SYMLINK_NOFOLLOW": {atSymlinkNofollow, unix.AT_SYMLINK_NOFOLLOW},
		"OPEN_TREE_CLONE": {openTreeClone, unix.OPEN_TREE_CLONE}, "OPEN_TREE_CLOEXEC": {openTreeCloexec, unix.OPEN_TREE_CLOEXEC},
		"FSOPEN_CLOEXEC": {fsopenCloexec, unix.FSOPEN_CLOEXEC}, "FSMOUNT_CLOEXEC": {fsmountCloexec, unix.FSMOUNT_CLOEXEC},
		"FSCONFIG_SET_FLAG": {fsconfigSetFlag, unix.FSCONFIG_SET_FLAG}, "FSCONFIG_SET_STRING": {fsconfigSetString, unix.FSCONFIG_SET_STRING},
		"FSCONFIG_CMD_CREATE":     {fsconfigCmdCreate, unix.FSCONFIG_CMD_CREATE},
		"MOVE_MOUNT_F_EMPTY_PATH": {moveMountFromEmpty, unix.MOVE_MOUNT_F_EMPTY_PATH}, "MOVE_MOUNT_T_EMPTY_PATH": {moveMountToEmpty, unix.MOVE_MOUNT_T_EMPTY_PATH},
		"RESOLVE_NO_XDEV": {resolveNoXdev, unix.RESOLVE_NO_XDEV}, "RESOLVE_NO_MAGICLINKS": {resolveNoMagiclinks, unix.RESOLVE_NO_MAGICLINKS},
		"RESOLVE_NO_SYMLINKS": {resolveNoSymlinks, unix.RESOLVE_NO_SYMLINKS}, "RESOLVE_BENEATH": {resolveBeneath, unix.RESOLVE_BENEATH},
		"RESOLVE_IN_ROOT": {resolveInRoot, unix.RESOLVE_IN_ROOT}, "MOUNT_ATTR_RDONLY": {mountAttrRdonly, unix.MOUNT_ATTR_RDONLY},
		"MOUNT_ATTR_NOSUID": {mountAttrNosuid, unix.MOUNT_ATTR_NOSUID}, "MOUNT_ATTR_NODEV": {mountAttrNodev, unix.MOUNT_ATTR_NODEV},
		"MOUNT_ATTR_NOEXEC": {mountAttrNoexec, unix.MOUNT_ATTR_NOEXEC}, "MOUNT_ATTR_IDMAP": {mountAttrIdmap, unix.MOUNT_ATTR_IDMAP}, "STATX_ATTR_MOUNT_ROOT": {statxAttrMountRoot, unix.STATX_ATTR_MOUNT_ROOT},
		"CLOSE_RANGE_CLOEXEC": {closeRangeCloexec, unix.CLOSE_RANGE_CLOEXEC}, "PROC_SUPER_MAGIC": {procSuperMagic, unix.PROC_SUPER_MAGIC},
		"DEVPTS_SUPER_MAGIC": {devptsSuperMagic, unix.DEVPTS_SUPER_MAGIC}, "PR_SET_KEEPCAPS": {prSetKeepcaps, unix.PR_SET_KEEPCAPS},
		"PR_CAPBSET_DROP":     {prCapbsetDrop, unix.PR_CAPBSET_DROP},
		"PR_SET_NO_NEW_PRIVS": {prSetNoNewPrivs, unix.PR_SET_NO_NEW_PRIVS}, "PR_CAP_AMBIENT": {prCapAmbient, unix.PR_CAP_AMBIENT},
		"PR_CAP_AMBIENT_RAISE": {prCapAmbientRaise, unix.PR_CAP_AMBIENT_RAISE}, "PR_CAP_AMBIENT_CLEAR_ALL": {prCapAmbientClear, unix.PR_CAP_AMBIENT_CLEAR_ALL},
		"_LINUX_CAPABILITY_VERSION_3": {linuxCapVersion3, unix.LINUX_CAPABILITY_VERSION_3}, "SECCOMP_SET_MODE_FILTER": {seccompSetFilter, unix.SECCOMP_SET_MODE_FILTER},
		"KEYCTL_JOIN_SESSION_KEYRING": {keyctlJoinSession, unix.KEYCTL_JOIN_SESSION_KEYRING}, "CLONE_NEWCGROUP": {cloneNewCgroup, unix.CLONE_NEWCGROUP},
		"TIOCGPTPEER": {tiocgptpeer, unix.TIOCGPTPEER}, "MNT_DETACH": {umountDetach, unix.MNT_DETACH},
		"SIG_SETMASK": {signalSetMask, unix.SIG_SETMASK}, "sizeof sched_attr": {sizeofSchedAttr, unix.SizeofSchedAttr},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %#x here, %#x in x/sys", name, pair[0], pair[1])
		}
	}
	if at := int64(unix.AT_FDCWD); cwdFd != uintptr(at) {
		t.Error("AT_FDCWD")
	}
	if got, want := deviceNumber(10, 300), unix.Mkdev(10, 300); uint64(got) != want {
		t.Errorf("device number %#x, want %#x", got, want)
	}
}

func TestSplit(t *testing.T) {
	for path, want := range map[string][2]string{
		"/a/b": {"/a/", "b"}, "/a": {"/", "a"}, "a": {"/", "a"}, "/a/b//": {"/a/", "b"}, "/": {"/", ""}, "/a/../b": {"/a/../", "b"},
	} {
		if parent, name := split(path); parent != want[0] || name != want[1] {
			t.Errorf("%s is %s and %s", path, parent, name)
		}
	}
}

func TestParseCgroups(t *testing.T) {
	got := parseCgroups("4:memory:/a/b\n2:cpu,cpuacct:/c\n1:name=systemd:/d:e\n0::/\nrubbish\n:::\n")
	want := map[string]string{"memory": "/a/b", "cpu,cpuacct": "/c", "name=systemd": "/d:e", "": ":"}
	if len(got) != len(want) {
		t.Fatal(got)
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%q is %q, want %q", k, got[k], v)
		}
	}
}

func TestDecimal(t *testing.T) {
	for n, want := range map[int]string{0: "0", 9: "9", 10: "10", 1234567: "1234567"} {
		if got := decimal(n); got != want {
			t.Errorf("%d is %s", n, got)
		}
	}
}
