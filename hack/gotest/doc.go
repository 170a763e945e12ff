// Command gotest runs `go test` and counts what it did.
//
// Owns: the closing summary: how many tests passed, failed and were skipped,
// and why each skip was one. A skipped test that nobody counts is a test that
// nobody has.
//
// Always true: it prints go test's own line for each package, the whole output
// of what failed, and exits with go test's code.
//
// May import: the standard library.
package main
