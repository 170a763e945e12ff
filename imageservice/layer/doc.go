// Package layer turns the blob of an image layer into a directory, in one pass.
//
// Owns: nothing; it fills the directory that it is given.
// Always true: when Unpack returns nil, every byte of the blob has been read
// and both digests, of the blob and of the tar in it, are what was asked for;
// after an error the directory is of no use and is thrown away. No entry
// touches anything outside the directory: each path is walked component by
// component from the directory's descriptor, symbolic links are read and
// interpreted here, never followed by the kernel. Nobody else may write in the
// directory meanwhile.
//
// Whiteouts become what overlayfs understands: a character device 0:0 for
// ".wh.NAME", the attribute trusted.overlay.opaque for ".wh..wh..opq".
//
// May import: linux, and the decompressors of github.com/klauspost.
package layer
