// Package registrytest is a registry on the loopback for tests, and images to
// put into it.
//
// Owns: the listening server of a test, until the test ends.
// Always true: what is pushed is there before the server answers, and nothing
// of it reaches a disk. Only tests import this package.
//
// May import: go-containerregistry, klauspost/compress.
package registrytest
