package plan

// Step is one act of becoming the container. Its text names it, with its
// object, in error messages.
type Step interface {
	String() string
	op() op
	fields(*codec)
}

// op is the number of a kind of step in the bytes.
type op uint8

const (
	opKeyring op = iota + 1
	opPropagate
	opRootOverlay
	opRootBind
	opRootTmpfs
	opRememberCgroups
	opCgroupNamespace
	opJoin
	opLoopback
	opSysctl
	opHostname
	opDomainname
	opMount
	opBind
	opCgroupV1
	opDevice
	opSymlink
	opFile
	opMakeDir
	opReadonlyPath
	opMaskedPath
	opReadonlyMount
	opTerminal
	opPivotRoot
	opSession
	opExecLabel
	opScheduler
	opIOPriority
	opPersonality
	opNoNewPrivileges
	opSeccomp
	opRlimit
	opBounding
	opChdir
	opUser
	opCapabilities
	opUmask
	opProgram
	opExec

	// Later ones: plans of running containers outlive an upgrade.
	opLayers
	opOutside
	opUserNamespace
	opPause

	opNext // the number after the last
)

// step returns an empty step of the kind, nil for an unknown one.
func (o op) step() Step {
	switch o {
	case opKeyring:
		return &Keyring{}
	case opPropagate:
		return &Propagate{}
	case opRootOverlay:
		return &RootOverlay{}
	case opRootBind:
		return &RootBind{}
	case opRootTmpfs:
		return &RootTmpfs{}
	case opRememberCgroups:
		return &RememberCgroups{}
	case opCgroupNamespace:
		return &CgroupNamespace{}
	case opJoin:
		return &Join{}
	case opLoopback:
		return &Loopback{}
	case opSysctl:
		return &Sysctl{}
	case opHostname:
		return &Hostname{}
	case opDomainname:
		return &Domainname{}
	case opMount:
		return &Mount{}
	case opBind:
		return &Bind{}
	case opCgroupV1:
		return &CgroupV1{}
	case opDevice:
		return &Device{}
	case opSymlink:
		return &Symlink{}
	case opFile:
		return &File{}
	case opMakeDir:
		return &MakeDir{}
	case opReadonlyPath:
		return &ReadonlyPath{}
	case opMaskedPath:
		return &MaskedPath{}
	case opReadonlyMount:
		return &ReadonlyMount{}
	case opTerminal:
		return &Terminal{}
	case opPivotRoot:
		return &PivotRoot{}
	case opSession:
		return &Session{}
	case opExecLabel:
		return &ExecLabel{}
	case opScheduler:
		return &Scheduler{}
	case opIOPriority:
		return &IOPriority{}
	case opPersonality:
		return &Personality{}
	case opNoNewPrivileges:
		return &NoNewPrivileges{}
	case opSeccomp:
		return &Seccomp{}
	case opRlimit:
		return &Rlimit{}
	case opBounding:
		return &Bounding{}
	case opChdir:
		return &Chdir{}
	case opUser:
		return &User{}
	case opCapabilities:
		return &Capabilities{}
	case opUmask:
		return &Umask{}
	case opProgram:
		return &Program{}
	case opExec:
		return &Exec{}
	case opLayers:
		return &Layers{}
	case opOutside:
		return &Outside{}
	case opUserNamespace:
		return &UserNamespace{}
	case opPause:
		return &Pause{}
	}
	return nil
}
