package stats

import (
	"bytes"
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
func ioStat(b []byte) IO {
	var io IO
	for line := range bytes.Lines(b) {
		for field := range bytes.FieldsSeq(line) {
			key, value, _ := bytes.Cut(field, []byte{'='})
			n, ok := number(value)
			if !ok {
				continue
			}
			switch string(key) {
			case "rbytes":
				io.ReadBytes += n
			case "wbytes":
				io.WriteBytes += n
			case "rios":
				io.Reads += n
			case "wios":
				io.Writes += n
			}
		}
	}
	return io
}

// blkio adds up the "8:0 Read 123" lines of a v1 file.
func blkio(b []byte) (read, write uint64) {
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) != 3 {
			continue // the total
		}
		n, ok := number(f[2])
		if !ok {
			continue
		}
		switch string(f[1]) {
		case "Read":
			read += n
		case "Write":
			write += n
		}
	}
	return read, write
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
