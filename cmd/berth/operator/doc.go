// Package operator is the commands of berth that ask a running daemon: ps, pods,
// images, logs, exec and so on.
//
// Owns: nothing. What is asked for comes over the CRI socket; log files are read
// where the daemon says that they are.
// Always true: what was asked for goes to standard output and nothing else does;
// -o json is one document that scripts may rely on, with the CRI's own names
// where the CRI has them; a command that changes something says what first.
//
// May import: config, cri/node, cri-api, grpc, cobra.
package operator
