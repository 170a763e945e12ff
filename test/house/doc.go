// Package house holds the import graph of the module against the table of
// levels.
//
// Owns: the table. A new folder gets its line in it, so that where it stands
// is a decision and not an accident.
//
// Always true: a failure names the chain of imports that causes it.
//
// May import: the standard library, config and the CRI types.
package house
