// Package metrics says what monitoring may know of pods and containers in the
// names, units and labels of cAdvisor, whose place it takes (KEP-2371).
//
// Owns: the table of metrics. The CRI carries whole numbers only, so what
// cAdvisor gives in fractions of a second is whole seconds here.
//
// Always true: descriptors and values come from the same row of one table, so
// their labels agree and the descriptors never change; a value that the host
// cannot give is left out.
//
// May import: runtime/stats, the CRI types, moby/sys/mountinfo.
package metrics
