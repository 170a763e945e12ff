// Package cri is the gRPC face of Berth: the RuntimeService and ImageService of
// the Kubernetes container runtime interface, v1.
//
// Owns: nothing; one file per RPC, which validates, translates and calls one
// service. What all RPCs share is in cri/interceptor.
// Always true: an RPC that is not served answers Unimplemented, which the
// kubelet's client falls back on; what a client gets is a copy of a record,
// never the record.
//
// May import: every service of level 3 and below, the CRI types, grpc.
package cri
