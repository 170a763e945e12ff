// Package undo takes back, in reverse order, what a failed operation has acquired.
//
// Owns: nothing beyond the steps pushed on a Stack.
// Always true: the steps run in a context that the request cannot cancel (a
// client that goes away must not leave a mount behind) but that ends; every
// step runs, whatever the others return.
//
// May import: the standard library.
package undo
