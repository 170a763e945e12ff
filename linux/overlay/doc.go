// Package overlay mounts overlay file systems where no mount table shows them.
//
// Owns: nothing; a view is a mount that lives as long as its descriptor.
// Always true: a view cannot be written through, and gives no device, set-id
// bit or program its effect; the caller's mount namespace does not change.
//
// May import: the standard library, golang.org/x/sys, linux, linux/namespace.
package overlay
