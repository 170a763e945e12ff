// Command berth is the node runtime's daemon and its operator's command line.
//
// Owns: the commands and their flags. wire.go is the one place that knows who
// implements what.
//
// Always true: results go to standard output, errors and logs to standard
// error; the exit code is 0 or 1, of exec that of the command.
//
// May import: everything.
package main
