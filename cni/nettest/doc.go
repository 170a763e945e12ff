// Package nettest gives the tests of the network packages a host network of
// their own, so that they can make bridges and rules without touching the
// machine's.
//
// Owns: nothing outside of a test.
//
// Always true: what it made is gone when the test ends.
//
// May import: linux/..., cni/netns, testing.
package nettest
