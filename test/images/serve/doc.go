// Command serve is a registry of test images, for tests of another module.
//
// Owns: the registry until standard input ends. It holds busybox:1, and for each
// argument NAME=FILE an image NAME:1 of busybox and that file as its entrypoint,
// /NAME.
//
// Always true: the first line that it prints is the registry's URL, when
// everything is there.
//
// May import: test/images.
package main
