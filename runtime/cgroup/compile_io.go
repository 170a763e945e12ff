package cgroup

import (
	"fmt"

	lib "github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func (c *compiler) blockIO(res *specs.LinuxResources) error {
	io := res.BlockIO
	if io == nil {
		return nil
	}
	_, v1 := c.m.place["blkio"]
	v2 := !v1 && c.v2("io")
	if value(io.LeafWeight) != 0 {
		return unsupported("blockIO.leafWeight", "the kernel has none since 5.0")
	}
	if err := c.ioWeights(io, v2); err != nil {
		return err
	}
	for _, t := range []struct {
		name, v1, v2 string
		devices      []specs.LinuxThrottleDevice
	}{
		{"throttleReadBpsDevice", "read_bps", "rbps", io.ThrottleReadBpsDevice},
		{"throttleWriteBpsDevice", "write_bps", "wbps", io.ThrottleWriteBpsDevice},
		{"throttleReadIOPSDevice", "read_iops", "riops", io.ThrottleReadIOPSDevice},
		{"throttleWriteIOPSDevice", "write_iops", "wiops", io.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.devices {
			dev := fmt.Sprintf("%d:%d", d.Major, d.Minor)
			s := setting{
				field: "blockIO." + t.name + "[" + dev + "]", controller: "blkio",
				file:  "blkio.throttle." + t.v1 + "_device",
				value: dev + " " + utoa(d.Rate), undo: keyed(dev, dev+" 0"), initial: d.Rate == 0,
			}
			if v2 {
				rate := utoa(d.Rate)
				if d.Rate == 0 { // v1's word for no limit
					rate = "max"
				}
				s.controller, s.file, s.value = "io", "io.max", dev+" "+t.v2+"="+rate
				s.undo = keyed(dev, dev+" "+t.v2+"=max")
			}
			c.add(s)
		}
	}
	return nil
}

// ioWeights writes proportional weights. Which file has them depends on the
// I/O scheduler: BFQ's own where the kernel has BFQ, else iocost's io.weight,
// which has another scale (v2), or CFQ's (v1 before 5.0).
func (c *compiler) ioWeights(io *specs.LinuxBlockIO, v2 bool) error {
	if n := value(io.Weight); n != 0 {
		if err := c.ioWeight("blockIO.weight", "", n, v2); err != nil {
			return err
		}
	}
	for _, w := range io.WeightDevice {
		dev := fmt.Sprintf("%d:%d", w.Major, w.Minor)
		field := "blockIO.weightDevice[" + dev + "]"
		if value(w.LeafWeight) != 0 {
			return unsupported(field, "leaf weights are gone from the kernel since 5.0")
		}
		if n := value(w.Weight); n != 0 {
			if err := c.ioWeight(field, dev, n, v2); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *compiler) ioWeight(field, dev string, n uint16, v2 bool) error {
	if n < 10 || n > 1000 {
		return invalid(field, "%d is not within 10 and 1000", n)
	}
	bfq := setting{field: field, controller: "blkio", file: "blkio.bfq.weight", value: utoa(uint64(n))}
	other := bfq
	other.file = "blkio.weight"
	key := dev
	if v2 {
		bfq.controller, bfq.file = "io", "io.bfq.weight"
		other = bfq
		other.file, other.value = "io.weight", utoa(lib.ConvertBlkIOToIOWeightValue(n))
		if dev == "" {
			key = "default"
		}
	} else if dev != "" {
		bfq.file += "_device"
		other.file += "_device"
	}
	for _, s := range []*setting{&bfq, &other} {
		if key != "" {
			s.value = key + " " + s.value
			s.undo = keyed(key, key+" default")
		}
	}
	bfq.instead = &other
	c.add(bfq)
	return nil
}
