// Package atomicfile writes and reads the records that Berth's state consists of.
//
// Owns: no path of its own; the one way in which a record reaches the disk.
// Always true: a reader sees the old content or the new, never a part; a file
// that a killed writer left is named ".tmp-*" and is nobody's record. Write
// is for tmpfs (nothing there outlives a power cut), WriteDurable for disks.
//
// May import: the standard library and errdefs.
package atomicfile
