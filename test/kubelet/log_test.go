package kubelet

import (
	"bufio"
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// syncBuffer is written by one goroutine and read by another.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// The kubelet rotates logs; who follows one misses nothing.
func logs(n *node, t *testing.T) {
	p := pod("logs",
		shell("counts", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i of a log that is rotated; [ $((i % 10)) = 0 ] && sleep 0.05; done; echo last; sleep 100000"),
		shell("both", "echo out; echo err >&2; sleep 100000"))
	n.ready(t, p)

	r, err := n.api.client.Get(n.api.base + podPath("containerLogs", "logs", "counts") + "?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	last := 0
	for lines := bufio.NewScanner(r.Body); lines.Scan() && lines.Text() != "last"; {
		var i int
		if _, err := fmt.Sscanf(lines.Text(), "line %d of", &i); err != nil || i != last+1 {
			t.Fatalf("after line %d: %q", last, lines.Text())
		}
		last = i
	}
	if last != 3000 {
		t.Errorf("followed %d lines", last)
	}
	eventually(t, 30*time.Second, "the log is rotated", func() error {
		files, _ := filepath.Glob(n.path("logs", "default_logs"+suffix+"_*", "counts", "*"))
		if len(files) != 3 || !strings.Contains(strings.Join(files, " "), ".gz") {
			return fmt.Errorf("%v", files)
		}
		return nil
	})
	eventually(t, 10*time.Second, "both streams", func() error {
		if out, err := n.logs("logs", "both"); err != nil || out != "out\nerr\n" && out != "err\nout\n" {
			return fmt.Errorf("%q, %v", out, err)
		}
		return nil
	})
	for query, want := range map[string]string{"tailLines=1": "last\n", "limitBytes=4&tailLines=1": "last", "sinceSeconds=1&tailLines=0": ""} {
		if out, err := n.logs("logs", "counts", query); err != nil || out != want {
			t.Errorf("%s: %q, %v", query, out, err)
		}
	}
	if out, err := n.logs("logs", "counts", "tailLines=1&timestamps=true"); err != nil || !strings.HasSuffix(out, "Z last\n") {
		t.Errorf("with a time: %q, %v", out, err)
	}
}
