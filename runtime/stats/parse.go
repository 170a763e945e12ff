package stats

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
)

// The formats below are the kernel's, and its numbers always fit. A line that
// does not look as documented is passed over: one new field must not take
// away all the others.

func number(b []byte) (uint64, bool) {
	n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
	return n, err == nil
}

// flat calls f with each "key value" line.
func flat(b []byte, f func(key []byte, n uint64)) {
	for len(b) > 0 {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte{'\n'})
		key, value, _ := bytes.Cut(line, []byte{' '})
		if n, ok := number(value); ok {
			f(key, n)
		}
	}
}

// ioStat reads io.stat: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=…".
func ioStat(b []byte) []Device {
	var all []Device
	for line := range bytes.Lines(b) {
		name, rest, _ := bytes.Cut(bytes.TrimSpace(line), []byte{' '})
		id, ok := deviceID(name)
		if !ok || len(rest) == 0 {
			continue
		}
		d := Device{Major: id[0], Minor: id[1]}
		for field := range bytes.FieldsSeq(rest) {
			key, value, _ := bytes.Cut(field, []byte{'='})
			n, ok := number(value)
			if !ok {
				continue
			}
			switch string(key) {
			case "rbytes":
				d.ReadBytes = n
			case "wbytes":
				d.WriteBytes = n
			case "dbytes":
				d.DiscardBytes = n
			case "rios":
				d.Reads = n
			case "wios":
				d.Writes = n
			}
		}
		all = append(all, d)
	}
	return all
}

// blkio calls f with each "8:0 Read 123" line of a v1 file.
func blkio(b []byte, devices map[[2]uint64]*Device, f func(d *Device, operation string, n uint64)) {
	for line := range bytes.Lines(b) {
		fields := bytes.Fields(line)
		if len(fields) != 3 {
			continue // the total
		}
		id, ok := deviceID(fields[0])
		if !ok {
			continue
		}
		n, ok := number(fields[2])
		if !ok {
			continue
		}
		if devices[id] == nil {
			devices[id] = &Device{Major: id[0], Minor: id[1]}
		}
		f(devices[id], string(fields[1]), n)
	}
}

// deviceID reads "8:0".
func deviceID(b []byte) (id [2]uint64, ok bool) {
	major, minor, _ := bytes.Cut(b, []byte{':'})
	first, ok1 := number(major)
	second, ok2 := number(minor)
	return [2]uint64{first, second}, ok1 && ok2
}

func sorted(devices map[[2]uint64]*Device) []Device {
	all := make([]Device, 0, len(devices))
	for _, d := range devices {
		all = append(all, *d)
	}
	slices.SortFunc(all, func(a, b Device) int {
		return cmp.Or(cmp.Compare(a.Major, b.Major), cmp.Compare(a.Minor, b.Minor))
	})
	return all
}

// pressure reads "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and "full …".
func pressure(b []byte) *Pressure {
	p := &Pressure{}
	for line := range bytes.Lines(b) {
		kind, rest, _ := bytes.Cut(line, []byte{' '})
		stall := &p.Some
		if string(kind) == "full" {
			stall = &p.Full
		}
		for field := range bytes.FieldsSeq(rest) {
			key, value, _ := bytes.Cut(field, []byte{'='})
			if string(key) == "total" {
				n, _ := number(value)
				stall.Total = n * 1000 // µs
				continue
			}
			avg, err := strconv.ParseFloat(string(value), 64)
			if err != nil {
				continue
			}
			switch string(key) {
			case "avg10":
				stall.Avg10 = avg
			case "avg60":
				stall.Avg60 = avg
			case "avg300":
				stall.Avg300 = avg
			}
		}
	}
	return p
}
