package main

// Numbers of the kernel that package syscall does not have. Those of x/sys/unix
// are compared with them in a test; importing it would cost a tenth of a
// millisecond at each start.
const (
	sysOpenTree     = 428
	sysMoveMount    = 429
	sysFsopen       = 430
	sysFsconfig     = 431
	sysFsmount      = 432
	sysCloseRange   = 436
	sysOpenat2      = 437
	sysMountSetattr = 442

	oPath = 0x200000

	atEmptyPath       = 0x1000
	atRecursive       = 0x8000
	atSymlinkNofollow = 0x100

	openTreeClone   = 1
	openTreeCloexec = 0x80000

	fsopenCloexec      = 1
	fsmountCloexec     = 1
	fsconfigSetFlag    = 0
	fsconfigSetString  = 1
	fsconfigCmdCreate  = 6
	moveMountFromEmpty = 0x04 // MOVE_MOUNT_F_EMPTY_PATH
	moveMountToEmpty   = 0x40 // MOVE_MOUNT_T_EMPTY_PATH

	resolveNoXdev       = 0x01
	resolveNoMagiclinks = 0x02
	resolveNoSymlinks   = 0x04
	resolveBeneath      = 0x08
	resolveInRoot       = 0x10

	mountAttrRdonly = 0x01
	mountAttrNosuid = 0x02
	mountAttrNodev  = 0x04
	mountAttrNoexec = 0x08
	mountAttrIdmap  = 0x100000

	statxAttrMountRoot = 0x2000

	closeRangeCloexec = 4

	procSuperMagic   = 0x9fa0
	devptsSuperMagic = 0x1cd1

	prSetKeepcaps      = 8
	prCapbsetDrop      = 24
	prSetNoNewPrivs    = 38
	prCapAmbient       = 47
	prCapAmbientRaise  = 2
	prCapAmbientClear  = 4
	linuxCapVersion3   = 0x20080522
	seccompSetFilter   = 1
	keyctlJoinSession  = 1
	cloneNewCgroup     = 0x02000000
	tiocgptpeer        = 0x5441
	ioprioWhoProcess   = 1
	sizeofSchedAttr    = 56
	umountDetach       = 2
	signalSetMask      = 2
	ignoreSignal       = 1
	sizeofKernelSigset = 8
)
