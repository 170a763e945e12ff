package metrics

import "github.com/berth-cri/berth/runtime/stats"

// network is a counter for each interface.
func network(name, help string, get func(*stats.Interface) uint64) metric {
	return metric{name: name, help: help, kind: counter, extra: []string{"interface"}, values: func(s *Subject, emit emit) {
		if s.Network == nil {
			return
		}
		for _, i := range s.Network.Interfaces {
			emit(get(&i), i.Name)
		}
	}}
}

var networkMetrics = []metric{
	network("container_network_receive_bytes_total", "Cumulative count of bytes received.", func(i *stats.Interface) uint64 { return i.Rx.Bytes }),
	network("container_network_receive_packets_total", "Cumulative count of packets received.", func(i *stats.Interface) uint64 { return i.Rx.Packets }),
	network("container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving.", func(i *stats.Interface) uint64 { return i.Rx.Dropped }),
	network("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving.", func(i *stats.Interface) uint64 { return i.Rx.Errors }),
	network("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted.", func(i *stats.Interface) uint64 { return i.Tx.Bytes }),
	network("container_network_transmit_packets_total", "Cumulative count of packets transmitted.", func(i *stats.Interface) uint64 { return i.Tx.Packets }),
	network("container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting.", func(i *stats.Interface) uint64 { return i.Tx.Dropped }),
	network("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting.", func(i *stats.Interface) uint64 { return i.Tx.Errors }),
}
