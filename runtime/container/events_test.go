package container

import (
	"slices"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestTold(t *testing.T) {
	for name, tc := range map[string]struct {
		from State
		now  Status
		want string
	}{
		"made":                         {Creating, Status{State: Created}, "C"},
		"start asked for":              {Created, Status{State: Starting, StartedAt: 1}, ""},
		"started":                      {Starting, Status{State: Running, StartedAt: 1}, "S"},
		"stop asked for":               {Running, Status{State: Stopping, StartedAt: 1}, ""},
		"ended":                        {Running, Status{State: Exited, StartedAt: 1}, "X"},
		"stopped":                      {Stopping, Status{State: Exited, StartedAt: 1}, "X"},
		"ended before start was noted": {Starting, Status{State: Exited, StartedAt: 1}, "SX"},
		"start failed":                 {Starting, Status{State: Exited}, "X"},
		"removal":                      {Exited, Status{State: Removing}, ""},
		"removal of one never started": {Created, Status{State: Removing}, ""},
	} {
		got := ""
		for _, e := range told(tc.from, &tc.now) {
			got += map[runtimeapi.ContainerEventType]string{0: "C", 1: "S", 2: "X", 3: "D"}[e]
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	if all := told(Creating, &Status{State: Removing}); !slices.Equal(all, nil) {
		t.Errorf("a creation that failed: %v", all)
	}
}
