// Command berth-monitor holds the containers of a node: it is their parent,
// writes their logs, keeps their exit codes and outlives the daemon. The daemon
// starts it and replaces it. See package runtime/monitor.
//
// Owns: nothing.
//
// May import: runtime/monitor, runtime/oci and its folders; nothing from grpc,
// k8s.io, containernetworking or go-containerregistry.
package main
