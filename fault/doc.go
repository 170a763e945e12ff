// Package fault makes failure an input: named points in the code at which a
// test, or a developer by BERTH_FAULTS, lets something go wrong.
//
// Owns: the table of armed points of this process.
// Always true: with nothing armed a point costs one atomic load.
//
// Grammar, per point: NAME=[N*]ACTION[(ARGUMENT)][->…], points separated by
// ";". N times, then the next action; without N for ever. Actions:
//
//	off           nothing
//	error(TEXT)   Hit returns an error with the text
//	sleep(DUR)    Hit waits, e.g. 100ms
//	exit(CODE)    the process ends at once, nothing deferred runs
//	kill          the process gets SIGKILL
//
// May import: the standard library.
package fault
