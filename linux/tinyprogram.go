package linux

import (
	"bytes"
	"encoding/binary"
)

// TinyProgram puts code into the smallest ELF file that the kernel runs: a header,
// one segment of everything, readable and executable, and the code behind them. It
// is for processes of which there are hundreds, and which do next to nothing.
func TinyProgram(code []byte) []byte {
	const (
		address            = 0x400000
		header, segment    = 64, 56
		typeExec, current  = 2, 1
		load, readExecute  = 1, 4 | 1
		elf64LittleEndian  = "\x7fELF\x02\x01\x01"
		page               = 0x10000 // the largest of arm64
		start              = header + segment
		noSections, noName = 0, 0
	)
	size := uint64(start + len(code))
	b := bytes.NewBuffer(make([]byte, 0, size))
	b.WriteString(elf64LittleEndian)
	b.Write(make([]byte, 16-b.Len()))
	for _, field := range []any{
		// Elf64_Ehdr
		uint16(typeExec), uint16(elfMachine), uint32(current),
		uint64(address + start), uint64(header), uint64(noSections), uint32(0),
		uint16(header), uint16(segment), uint16(1), uint16(64), uint16(noSections), uint16(noName),
		// Elf64_Phdr
		uint32(load), uint32(readExecute), uint64(0), uint64(address), uint64(address),
		size, size, uint64(page),
		code,
	} {
		_ = binary.Write(b, binary.LittleEndian, field) // a buffer takes everything
	}
	return b.Bytes()
}
