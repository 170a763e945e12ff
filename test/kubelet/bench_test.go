package kubelet

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkNode tells what twenty pods cost: how long a start of each kind of RPC
// took as the kubelet measures it, how long all took to be ready, and what the
// processes then use of a core while nothing happens. Once is enough:
// -bench . -benchtime 1x.
func BenchmarkNode(b *testing.B) {
	n := newNode(b, nil)
	n.ready(b, pod("warm", sleeps("main")))
	const pods = 20
	began := time.Now()
	for i := range pods {
		n.run(b, pod(fmt.Sprint("idle-", i), sleeps("main")))
	}
	for i := range pods {
		n.until(b, fmt.Sprint("idle-", i), "ready", isReady)
	}
	b.ReportMetric(time.Since(began).Seconds(), "s/20-pods-ready")
	metrics, err := n.api.get("/metrics")
	if err != nil {
		b.Fatal(err)
	}
	for _, op := range []string{"run_podsandbox", "create_container", "start_container"} {
		b.ReportMetric(1000*mean(string(metrics), op), "ms/"+op)
	}
	time.Sleep(10 * time.Second)
	const watched = 30 * time.Second
	pids := map[string]int{"berth": n.berth.Process.Pid, "monitor": n.monitor(), "kubelet": n.kubelet.Process.Pid}
	before := map[string]time.Duration{}
	for name, pid := range pids {
		before[name] = cpuTime(b, pid)
	}
	time.Sleep(watched)
	for name, pid := range pids {
		b.ReportMetric(100*float64(cpuTime(b, pid)-before[name])/float64(watched), "%core/"+name)
	}
	b.ReportMetric(0, "ns/op")
}

// mean is the mean duration of a kind of RPC.
func mean(metrics, operation string) float64 {
	value := func(kind string) float64 {
		m := regexp.MustCompile(`(?m)^kubelet_runtime_operations_duration_seconds_` + kind + `\{operation_type="` + operation + `"\} (\S+)$`).FindStringSubmatch(metrics)
		if m == nil {
			return 0
		}
		f, _ := strconv.ParseFloat(m[1], 64)
		return f
	}
	return value("sum") / value("count")
}

// cpuTime is what a process has used so far; the kernel counts in steps of 10 ms.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	return time.Duration(atoi(f[11])+atoi(f[12])) * 10 * time.Millisecond
}
