// Package store keeps images on the disk.
//
// Owns, below the root directory:
//
//	blobs/sha256/<hex>            manifests and configs
//	layers/sha256/<hex diff id>/  fs/ (the unpacked tree) and meta.json
//	layers/sha256/<hex>.unsynced  a layer that is unpacked, no image has it yet
//	images/<hex>.json             one record per image; its rename is the commit
//	images/broken/                records that could not be read
//	tmp/layer-*                   layers while they are unpacked
//
// Always true: a layer under its final name is whole and durable, together
// with its meta.json, since both came by one rename after the sync, of which
// there is one per image; a record names only
// layers and blobs that were durable before it; an image that Images and
// Lookup return has all its layers. What no record and no hold names is
// garbage, and only Sweep takes it away. A name (tag or digest) belongs to one
// image. *Image values are immutable.
//
// May import: linux, atomicfile, trash, fault.
package store
