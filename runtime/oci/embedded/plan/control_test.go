package plan

import (
	"slices"
	"strings"
	"testing"
)

func TestRelease(t *testing.T) {
	for name, tasks := range map[string][]string{
		"no cgroup to join": nil,
		"several":           {"/sys/fs/cgroup/cpu/a/tasks", "/sys/fs/cgroup/memory/a/tasks"},
	} {
		b, err := Release{Tasks: tasks}.Append(nil)
		if err != nil || b[0] != Go {
			t.Fatalf("%s: %q, %v", name, b, err)
		}
		if r, ok := ParseRelease(b); !ok || !slices.Equal(r.Tasks, tasks) {
			t.Errorf("%s: came back as %q, %v", name, r.Tasks, ok)
		}
		for cut := range len(b) {
			if _, ok := ParseRelease(b[:cut]); ok {
				t.Errorf("%s: taken although cut at %d", name, cut)
			}
		}
	}
	if _, err := (Release{Tasks: []string{strings.Repeat("x", MaxMessage)}}).Append(nil); err == nil {
		t.Error("a message over the limit was made")
	}
	if _, ok := ParseRelease([]byte{Failed, 0}); ok {
		t.Error("another message was taken for it")
	}
}
