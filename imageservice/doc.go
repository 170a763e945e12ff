// Package imageservice is the images of the node, as the CRI layer and the
// pods see them: one door to the packages below it.
//
// Owns: the store of the root directory, the pulls that are running, and when
// the store is swept.
//
// Always true:
//   - An image is listed whole or not at all, and Pull, Lookup, List and Remove
//     agree with each other the moment they return.
//   - The id of an image is the digest of its config, everywhere.
//   - Whoever uses layers holds them (Hold, Release). Remove frees only what
//     nobody holds, so a container outlives its image. Holds are not kept on
//     disk: after a restart every living container must be held again before Run
//     begins to sweep.
//
// Names are looked up as containerd does: as a reference ("busybox", with tag
// or digest), then as an id or a prefix of one. Remove takes an image away with
// all its names, as the CRI demands, whichever name was given.
//
// Pinned images are those with a name in Options.Pinned: a full or short name,
// or a prefix of full names such as "registry.k8s.io/*". The kubelet does not
// collect them. Remove refuses them with FailedPrecondition: containerd
// deletes them, and its users lost the images of air-gapped nodes to
// "crictl rmi --prune" that way.
//
// May import: everything below imageservice, and trash.
package imageservice
