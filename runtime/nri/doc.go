// Package nri lets plugins of the Node Resource Interface take part in the life
// of pods and containers: they are asked before a pod or container is made,
// started or updated, may change a container's spec and any container's limits,
// and are told of everything else.
//
// Owns: the socket that plugins connect to, the processes of plugins that were
// started with the daemon, and which pods and containers plugins know of.
//
// Always true: no lock is held while a plugin is called, but the library's own
// that calls one plugin after the other, and one that puts what is told of the
// end of one pod or container in order; a plugin that hangs is waited for no
// longer than its timeout; without plugins nothing is translated; a wish that
// cannot be met is an error; a plugin that joins learns of each pod and container
// either by the list that it begins with or by a call; who else serves the
// socket keeps it.
//
// May import: runtime/pod, runtime/container, runtime/cdi, linux/namespace, the
// NRI library, the CRI types.
package nri
