// Package linux wraps the system calls that Berth needs.
//
// Owns: nothing; every function is one call or a few that belong together.
// Always true: a call interrupted by a signal is made again, every descriptor
// is close-on-exec, and an error carries the call's name (*os.SyscallError,
// *os.PathError) so that the layer above only adds its step.
//
// May import: the standard library and golang.org/x/sys.
package linux
