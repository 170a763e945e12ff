// Command doccheck holds those rules of the house that can be read off the
// source: what each package must say about itself, and what only one package
// may do.
//
// Owns: the rules in rules.go, each with its reason.
//
// Always true: it parses and never runs or type-checks, so that it takes less
// than a second.
//
// May import: the standard library.
package main
