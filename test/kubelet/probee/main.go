package main

import (
	"fmt"
	"net"
	"net/http"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	http.HandleFunc("/ill", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "well") })
	failed := make(chan error)
	go func() { failed <- http.ListenAndServe(":8080", nil) }()
	go func() { failed <- serveHealth() }()
	fmt.Fprintln(os.Stderr, "probee:", <-failed)
	os.Exit(1)
}

func serveHealth() error {
	l, err := net.Listen("tcp", ":9000")
	if err != nil {
		return err
	}
	h := health.NewServer()
	h.SetServingStatus("ill", healthpb.HealthCheckResponse_NOT_SERVING)
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, h)
	return s.Serve(l)
}
