// Package pull brings an image from its registry into the store.
//
// Owns: the pulls that are running, and nothing that outlives them.
//
// Always true:
//   - An image is recorded last, when all its layers are whole and durable. A pull
//     that fails, is cancelled or dies leaves no image, and nothing in the
//     store's temporary directory.
//   - One pull per name and credentials runs at a time; callers for the same
//     join it and get its result. Who goes away leaves; when the last one has
//     left, the pull is cancelled, and that one waits until it has cleaned up.
//   - A layer is unpacked once, however many pulls want it (store.BeginLayer).
//   - Bytes are hostile until their digest is verified: manifests and configs
//     before they are parsed, layers before they get their name.
//   - RepoDigests hold the digest that the name resolved to: of the index when
//     there is one, as in containerd. The image's id is the config's digest.
//
// A pull that gets nowhere ends by itself, as the kubelet sets no deadline:
// when fewer than Options.ProgressBytes were downloaded and unpacked together
// during Options.ProgressTimeout. Waiting for another pull's layer does not
// count, since that pull is watched itself.
//
// May import: registry, layer, store, reference, containerd/platforms.
package pull
