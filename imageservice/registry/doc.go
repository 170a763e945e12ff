// Package registry speaks the distribution protocol: it finds the endpoints of
// an image's registry, authenticates, and reads manifests and blobs.
//
// Owns: the HTTP connections to registries and the parsed hosts.toml files.
//
// Always true:
//   - A manifest or a config that a Session returns has the digest that was
//     asked for. A Blob is a stream and is verified by who unpacks it.
//   - Endpoints are asked in the order of hosts.toml, the registry itself last.
//     What one endpoint refuses, lacks or garbles, the next one is asked for; the
//     kind of the final error is that of the last endpoint, since the registry
//     itself knows best, and its text names every endpoint with its answer.
//   - Nothing from the network is read without a limit.
//
// # Endpoints
//
// The configuration directory is containerd's: DIR/<registry>/hosts.toml, where
// the directory of registry.example:5000 may be called registry.example_5000_
// or registry.example:5000, and DIR/_default serves registries that have no
// directory. A directory without hosts.toml may hold *.crt (authorities) and
// NAME.cert with NAME.key (client certificates), as Docker reads them. Files
// are looked at again for each pull, parsed only when they changed.
//
// Without configuration a registry is reached by https; one on the loopback
// with a port other than 443 by http. docker.io is registry-1.docker.io.
// A mirror is told by the parameter ns= which registry is meant.
//
// # Credentials
//
// Credentials come with the pull. They are sent only to an endpoint that asked
// for them (401 with a challenge), and to which:
//   - with server_address set: the endpoint of that host and port, and the
//     registry itself when server_address is its name (the names of Docker Hub
//     are one);
//   - without it, as the kubelet sends them: every endpoint configured for that
//     registry, mirrors included, as containerd does: a mirror is there because
//     the node's administrator named it.
//
// They never follow a redirect to another origin, and neither do the headers of
// hosts.toml. A registry_token goes to the endpoint as it is, an identity_token
// and a password go to the token server that the endpoint names. An https
// endpoint cannot name an http token server.
//
// # Why not a registry library
//
// go-containerregistry and oras-go were tried on paper and serve the tests
// (the former's in-process registry). The first begins with a ping of /v2/, which
// mirrors with override_path do not answer; both refuse token servers with
// private addresses, where many companies have theirs; neither resumes a
// broken download nor takes the next endpoint in the middle of one.
//
// May import: reference, errdefs, cri-api/pkg/errors, go-digest, image-spec, go-toml.
package registry
