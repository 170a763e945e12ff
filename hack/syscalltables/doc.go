// Command syscalltables writes the syscall name tables of
// runtime/oci/embedded/seccomp from the zsysnum files of golang.org/x/sys, in
// the version that go.mod names. Run it with go generate.
//
// Owns: the generated tables.
//
// May import: the standard library.
package main
