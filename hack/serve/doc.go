// Command serve is `make run`: it starts the freshly built daemon in the
// foreground and says what to type once it is serving.
//
// Owns: nothing that outlives it.
//
// Always true: it knows that the daemon serves from the daemon itself, which
// tells it as it would tell systemd.
//
// May import: the standard library and golang.org/x/sys.
package main
