// Package images makes the images that tests run, and serves them.
//
// Owns: a registry on the loopback device for as long as the process lives, and
// the root file system of Debian's static busybox.
// Always true: nothing is fetched; a name's host is ignored, so that hosts.toml
// can lead the host of any test here.
//
// May import: go-containerregistry; tests and test/images/serve import it.
package images
