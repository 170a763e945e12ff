// Package events hands what happens to containers and sandboxes to everybody
// who listens.
//
// Owns: the listeners and what waits to be read by each of them; nothing of the
// past, so that a client listens first and lists then.
//
// Always true: publishing never waits for a reader, and costs nothing without
// one; an event's statuses are taken in the same moment as its time, which is
// later than that of every event before it, so an event never tells less than
// one before it; each listener gets every event in that order or, when more
// than Waiting of them wait for it, none of them and an error that tells it to
// list again.
//
// May import: errdefs, the CRI types.
package events
