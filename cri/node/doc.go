// Package node is Berth's own service beside the CRI's, on the same socket: a
// pull that tells how far it is and which registries it asked, and what takes
// room on the disk. Its clients are the operator's commands.
//
// It is gRPC with JSON messages: the types of this package are the whole
// protocol, there is nothing to generate, and `berth.v1` is in the service's
// name. Fields may be added; one that changes its meaning gets a new name.
//
// Owns: nothing.
// Always true: what the kubelet needs goes over the CRI and never over this; a
// slow client slows no pull; no credential is ever in an answer.
//
// May import: imageservice, runtime/container, runtime/pod, errdefs, grpc.
package node
