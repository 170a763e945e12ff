package metrics

import (
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// metric is one row: a name with what gives its values.
type metric struct {
	name, help string
	kind       runtimeapi.MetricType
	extra      []string // labels beside those that all have
	values     func(s *Subject, emit emit)
}

// emit takes a value with its extra labels.
type emit func(value uint64, extra ...string)

// labels are the keys that cAdvisor within the kubelet gives every metric.
var labels = []string{"container", "id", "image", "name", "namespace", "pod"}

// table has everything that there is, in the order of the names' subjects.
var table = concat(cpuMetrics, memoryMetrics, pressureMetrics, diskMetrics, networkMetrics, processMetrics, specMetrics)

func concat(parts ...[]metric) []metric {
	var all []metric
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

const (
	counter = runtimeapi.MetricType_COUNTER
	gauge   = runtimeapi.MetricType_GAUGE
)

// Descriptors tells all names with their labels.
func Descriptors() []*runtimeapi.MetricDescriptor {
	all := make([]*runtimeapi.MetricDescriptor, 0, len(table))
	for _, m := range table {
		all = append(all, &runtimeapi.MetricDescriptor{Name: m.name, Help: m.help, LabelKeys: append(labels[:len(labels):len(labels)], m.extra...)})
	}
	return all
}

// Of gives every value that the subject has.
func Of(s *Subject) []*runtimeapi.Metric {
	all := make([]*runtimeapi.Metric, 0, len(table))
	base := []string{s.Container, s.ID, s.Image, s.Name, s.Namespace, s.Pod}
	for i := range table {
		m := &table[i]
		m.values(s, func(value uint64, extra ...string) {
			values := base // shared: nobody changes what is sent
			if len(extra) > 0 {
				values = append(base[:len(base):len(base)], extra...)
			}
			all = append(all, &runtimeapi.Metric{
				Name: m.name, MetricType: m.kind, LabelValues: values, Value: &runtimeapi.UInt64Value{Value: value},
			})
		})
	}
	return all
}

// optional is a metric with one value, which may be missing.
func optional(name, help string, kind runtimeapi.MetricType, get func(*Subject) *uint64) metric {
	return metric{name: name, help: help, kind: kind, values: func(s *Subject, emit emit) {
		if n := get(s); n != nil {
			emit(*n)
		}
	}}
}
