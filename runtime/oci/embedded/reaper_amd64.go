package embedded

import "encoding/binary"

// reaperCode waits for one of the signals and exits.
func reaperCode(signals uint64) []byte {
	code := []byte{
		0xb8, 0x80, 0x00, 0x00, 0x00, //             wait: mov eax, 128 (rt_sigtimedwait)
		0x48, 0x8d, 0x3d, 0x19, 0x00, 0x00, 0x00, // lea rdi, [signals]
		0x31, 0xf6, //                               xor esi, esi (no siginfo)
		0x31, 0xd2, //                               xor edx, edx (no timeout)
		0x41, 0xba, 0x08, 0x00, 0x00, 0x00, //       mov r10d, 8
		0x0f, 0x05, //                               syscall
		0x85, 0xc0, //                               test eax, eax
		0x7e, 0xe4, //                               jle wait
		0xb8, 0xe7, 0x00, 0x00, 0x00, //             mov eax, 231 (exit_group)
		0x31, 0xff, //                               xor edi, edi
		0x0f, 0x05, //                               syscall
	}
	return binary.LittleEndian.AppendUint64(code, signals) // signals:
}
