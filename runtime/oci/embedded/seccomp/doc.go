// Package seccomp turns the seccomp section of an OCI spec into the classic
// BPF program that the kernel loads, in pure Go.
//
// Owns: the meaning of an OCI seccomp profile as a program.
//
// Always true:
//   - The architecture is checked before anything else; a syscall of an ABI that
//     the profile does not name kills the process.
//   - What a profile means is what libseccomp with runc make of it: which rule
//     wins, which names are skipped, where ENOSYS is answered.
//   - A program is a binary search over ranges of syscall numbers: a handful of
//     comparisons for each syscall, and short enough that the kernel translates
//     it several times faster than a linear list.
//   - Compile is a pure function of the profile and the machine, and its results
//     are kept by content: nearly all containers of a node share one profile.
//
// May import: the standard library, errdefs, runtime-spec, golang.org/x/sys.
package seccomp

//go:generate go run ../../../../hack/syscalltables -out .
