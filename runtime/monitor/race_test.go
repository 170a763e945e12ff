//go:build race

package monitor

func init() { raceDetector = true }
