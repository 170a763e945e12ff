package monitor

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// BenchmarkExec is an exec of true through the socket, to its exit;
// BenchmarkFork the fork alone.
func BenchmarkExec(b *testing.B) {
	n := newNode(b)
	n.start("c", nil, "sleep", "1000")
	p := plan(b, "true")
	for b.Loop() {
		e, err := n.sup.Exec(background, ExecRequest{ContainerID: "c", ID: "e", Plan: p, Tied: true})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := e.Wait(background); err != nil {
			b.Fatal(err)
		}
		e.Close()
	}
}

func BenchmarkFork(b *testing.B) {
	for b.Loop() {
		pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{})
		if err != nil {
			b.Fatal(err)
		}
		syscall.Wait4(pid, nil, 0, nil)
	}
}

// BenchmarkStart is a container from its pipes to Forget.
func BenchmarkStart(b *testing.B) {
	n := newNode(b)
	p := plan(b, "true")
	i := 0
	for b.Loop() {
		id := itoa(i)
		i++
		box := n.prepare(id, nil)
		box.req.PlanFile = p
		st, err := n.sup.Start(background, box.req)
		if err != nil {
			b.Fatal(err)
		}
		n.wait(id)
		if err := n.sup.Forget(background, id); err != nil {
			b.Fatal(err)
		}
		st.Pidfd.Close()
		box.keep.Close()
		os.RemoveAll(filepath.Join(n.state, id))
	}
}
