// Package trash removes trees without making anybody wait for it.
//
// Owns: the directory given to Open and everything in it.
// Always true: Discard is one rename, so a name is free again when it returns,
// however large the tree and whatever is still open in it; what is in the
// bin is nobody's and survives a crash only to be swept at the next start.
//
// May import: the standard library and linux.
package trash
