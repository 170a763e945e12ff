package builtin

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

// maxComment is what nft(8) takes as a comment.
const maxComment = 128

// owner is the comment on a set element that says whose it is: network,
// container and interface.
func owner(network, id, ifName string) string {
	s := id + " " + ifName
	if len(networkTag(network)+s) > maxComment {
		sum := sha256.Sum256([]byte(s))
		s = hex.EncodeToString(sum[:])
	}
	return networkTag(network) + s
}

// networkTag starts every owner of a network.
func networkTag(network string) string {
	if len(network) <= 40 {
		return network + " "
	}
	sum := sha256.Sum256([]byte(network))
	return hex.EncodeToString(sum[:16]) + " "
}

func owners(network string, valid []types.GCAttachment) map[string]bool {
	keep := map[string]bool{}
	for _, v := range valid {
		keep[owner(network, v.ContainerID, v.IfName)] = true
	}
	return keep
}

// stale tells whether an element belongs to the network and to none that is kept.
func stale(network, comment string, keep map[string]bool) bool {
	return strings.HasPrefix(comment, networkTag(network)) && !keep[comment]
}
