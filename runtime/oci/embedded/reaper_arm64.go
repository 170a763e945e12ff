package embedded

import "encoding/binary"

// reaperCode waits for one of the signals and exits.
func reaperCode(signals uint64) []byte {
	var code []byte
	for _, instruction := range []uint32{
		0x10000180, // wait: adr x0, signals
		0xd2800001, // mov x1, #0 (no siginfo)
		0xd2800002, // mov x2, #0 (no timeout)
		0xd2800103, // mov x3, #8
		0xd2801128, // mov x8, #137 (rt_sigtimedwait)
		0xd4000001, // svc #0
		0xf100001f, // cmp x0, #0
		0x54ffff2d, // b.le wait
		0xd2800000, // mov x0, #0
		0xd2800bc8, // mov x8, #94 (exit_group)
		0xd4000001, // svc #0
		0xd503201f, // nop
	} {
		code = binary.LittleEndian.AppendUint32(code, instruction)
	}
	return binary.LittleEndian.AppendUint64(code, signals) // signals:
}
