// Package spec turns a CRI container configuration into an OCI runtime spec.
//
// Owns: the meaning of ContainerConfig and PodSandboxConfig: which requests are
// valid, and what each field becomes in the spec.
//
// Always true:
//   - Build is pure: what it needs of the world comes in its Input, so every pod
//     shape has a golden file. Looking at the host is Resolve's and DetectHost's.
//   - A field that is set and cannot be honoured is an error that names it.
//   - Nothing here depends on which OCI runtime gets the spec.
//
// May import: the standard library, linux, linux/namespace, errdefs, cri-api, runtime-spec,
// image-spec, moby/profiles, moby/sys, the names of the container-device-interface,
// golang.org/x/sys.
package spec
