package builtin

import (
	"fmt"
	"testing"
	"time"

	"github.com/berth-cri/berth/cni/nettest"
)

func BenchmarkBridge(b *testing.B) {
	dir := nettest.TempDir(b)
	noLeaks(b, dir)
	conf := bridgeNet(dir)
	first := nettest.Pod(b)
	mustAdd(b, conf, "first", first)
	defer mustDel(b, conf, "first", first)
	// Pods are made and ended in batches outside of the clock: the kernel frees
	// namespaces in the background, under the lock that ADD needs.
	const batch = 50
	for _, timed := range []string{Add, Del} {
		b.Run(timed, func(b *testing.B) {
			var pods []string
			var removes []func()
			end := func() {
				b.StopTimer()
				for i, pod := range pods {
					mustDel(b, conf, fmt.Sprint(i), pod)
					removes[i]()
				}
				time.Sleep(time.Duration(len(pods)) * 10 * time.Millisecond)
				pods, removes = nil, nil
				b.StartTimer()
			}
			for b.Loop() {
				b.StopTimer()
				if len(pods) == batch {
					end()
				}
				pod, remove := nettest.NewPod(b)
				id := fmt.Sprint(len(pods))
				pods, removes = append(pods, pod), append(removes, remove)
				if timed == Add {
					b.StartTimer()
				}
				mustAdd(b, conf, id, pod)
				b.StartTimer()
				if timed == Del {
					mustDel(b, conf, id, pod)
				}
			}
			end()
		})
	}
}
