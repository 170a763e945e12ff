package container

import "context"

// ReopenLog makes a new log file, after a rotation, before it returns. When the
// container does not run it is an error and makes no file (CRI, ReopenContainerLog).
func (s *Service) ReopenLog(ctx context.Context, id string) error {
	c, err := s.index.Get(id)
	if err != nil {
		return err
	}
	if st := c.Status().State; st != Running && st != Stopping {
		return &TransitionError{From: st, Event: "reopen log"}
	}
	return s.monitor.ReopenLog(ctx, c.rec.ID)
}
