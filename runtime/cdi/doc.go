// Package cdi finds devices of the Container Device Interface: vendors describe in
// files what a container needs beside device nodes to use their hardware.
//
// Owns: nothing; it reads the directories of the configuration.
//
// Always true: what is found is what the files say at that moment, and a broken
// file spoils no device of another.
//
// May import: errdefs, runtime-spec, tags.cncf.io/container-device-interface.
package cdi
