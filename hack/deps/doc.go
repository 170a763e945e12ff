// Package deps names the modules of the design, so that go.mod keeps them
// while not every package that needs one is written.
//
// Owns: nothing. It goes once each import stands where it is used.
//
// May import: everything.
package deps
