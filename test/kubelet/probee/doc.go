// Command probee is what the probes of the tests ask: gRPC health on port 9000,
// HTTP on 8080, which answers 500 on /ill.
//
// Owns: its two ports.
//
// May import: google.golang.org/grpc.
package main
