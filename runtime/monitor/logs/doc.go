// Package logs moves the output of a container into its CRI log file.
//
// Owns: the log file while a container runs (one writer, one clock for both
// streams) and the container's carry file.
//
// Always true:
//   - Each line that was read from a pipe is in the log exactly once and in
//     order, even when the process is SIGKILLed at any instruction: bytes are
//     read straight into the carry file (a shared mapping on tmpfs, which
//     outlives the process), and its header says before each step what is about
//     to happen.
//   - Reading never stops because writing failed: what the disk did not take is
//     dropped and counted, and the log says so as soon as it takes bytes again.
//     A torn line is cut off.
//   - After Reopen returns, nothing goes to the old file.
//   - A tap hears each byte once, in order, from the moment on that it was added.
//
// # Log line
//
//	2026-01-02T15:04:05.000000000Z stdout F content\n
//
// UTC with nine digits (valid RFC3339Nano; lines sort as text), one time per
// read, never going back. F ends a line, P is a part of one: a line longer than
// 16 KiB comes in parts, and so does, as with containerd, a last line
// that ended without a newline, so that `kubectl logs` prints exactly the bytes
// the container wrote.
//
// # Carry file
//
// A header of 256 bytes, then one area per stream; little-endian words as in
// struct header. A stream's state is one word, changed by one store:
//
//	start<<42 | end<<21 | intent
//
// [start,end) was read and is not in the log. intent is the length of a read(2)
// about to happen at end; that range is zeroed first. The pipe is asked for its
// length (FIONREAD) before and this is its only reader, so the read takes
// exactly intent bytes: after a crash, anything but zeros there means that it
// happened. (Only a batch of nothing but NUL bytes, at exactly this
// instruction, would be lost. A terminal may deliver fewer bytes than asked
// for: there a crash between read and count can add NULs.)
//
// Before a write to the log the header records from where, to where, at what
// time, and the log's inode and size: recovery formats the same bytes again and
// appends only what is missing.
//
// Pages are allocated before they are touched, so a full tmpfs never is a
// SIGBUS, and given back by Trim.
//
// May import: standard library, golang.org/x/sys, errdefs, linux, fault.
package logs
