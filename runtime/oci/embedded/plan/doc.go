// Package plan is the language between the daemon, which knows a container's
// spec, and berth-init, which becomes the container.
//
// A plan is a list of steps, each of them one act of the kernel with its
// arguments worked out: which mount option is which flag, which namespace comes
// first and when privileges go was decided when the plan was made. berth-init
// carries the steps out in their order and knows nothing of OCI.
//
// As bytes, with every number an unsigned varint and every string or list led by
// its length:
//
//	"BPLN" version step*
//	step = op field*
//
// Owns: the steps, their bytes, and the words on the control socket.
//
// Always true: Decode of any bytes returns steps or an error, takes memory in
// proportion to them only, and gives back what Encode was given.
//
// May import: nothing. Each package that berth-init links costs it start-up time.
package plan
