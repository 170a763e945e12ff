package main

import (
	"context"
	"errors"

	"github.com/berth-cri/berth/config"
)

// runServe runs the daemon until ctx ends.
func runServe(ctx context.Context, cfg *config.Config) error {
	return errors.New("the daemon is not wired up yet")
}
