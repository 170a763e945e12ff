// Command bench loads any number of CRI runtimes in turn and prints their
// figures side by side.
//
//	go run ./test/bench berth=/run/berth/berth.sock containerd=/run/containerd/containerd.sock
//
// Owns: the definition of each figure; see the phases in main.go. It speaks
// plain CRI v1, sends what a kubelet sends, and knows about no runtime but by
// the names of their helper processes.
//
// Always true: the runtimes take turns within each phase (A B A B), so that
// whatever else the machine does hits all of them; every pod carries a label
// and is gone at the end, also after an error or ^C.
//
// May import: the standard library, cri-api and grpc; nothing of Berth, which
// is just one of the runtimes here.
package main
